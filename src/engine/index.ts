export { checkRegistryNames } from '../registry/index.js';
export { Engine, type EngineOptions } from './engine.js';
