export { Gateway, type GatewayIdentity } from './gateway.js';
export {
  type NetworkConfig,
  needsGateway,
  normalNetwork,
  normalSecretHosts,
  secretRules,
} from './rules.js';
export { type GatewayPolicy, policyOf, rootsOf } from './settings.js';
