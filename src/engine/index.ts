export { Engine, type EngineOptions } from './engine.js';
export { defaultHome, type HomePaths, homePaths, prepareHome } from './home.js';
