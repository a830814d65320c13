// How the dashboard becomes static files. The stage and the place are given by scripts/lib/ui.mjs.
import { defineConfig } from 'vite';

export default defineConfig({
  base: './',
  // Text in the page is written by Preact alone, which escapes it.
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  build: {
    target: 'es2022',
    sourcemap: false,
    // Inlined files would be data: URLs, which the content policy refuses but for images.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
});
