export { Gateway, type GatewayIdentity } from './gateway.js';
export { type NetworkConfig, needsGateway, normalNetwork } from './rules.js';
export { type GatewayPolicy, policyOf } from './settings.js';
