export { Gateway, type GatewayIdentity } from './gateway.js';
export {
  type NetworkConfig,
  needsGateway,
  normalNetwork,
  normalSecretHosts,
  type SecretServers,
  secretRules,
  secretServers,
} from './rules.js';
export { type GatewayPolicy, policyOf, rootsOf } from './settings.js';
