export { buildDebianImage } from './build.js';
export { type Image, layerSources, loadImage } from './image.js';
export { importImage } from './import.js';
export { putImage, putLayer } from './layered.js';
export { debianContents } from './recipes.js';
export { BlobStore } from './store.js';
