/** Answers that are one JSON text. */
export const jsonMedia = 'application/json; charset=utf-8';

/** Lines of JSON: progress of long operations, and events. */
export const ndjson = 'application/x-ndjson';

/** Trees of files, both directions (v1 contract, section 1.7). */
export const tarMedia = 'application/x-tar';

/** Archives and contents of files. */
export const octets = 'application/octet-stream';

/** Header of an import: environment variables as JSON in ASCII. Not in the address, which is logged on its way. */
export const importEnvHeader = 'cryobox-env';

/** Header of a build: values of ARG as JSON in ASCII. Not in the address, which is logged on its way. */
export const buildArgsHeader = 'cryobox-build-args';
