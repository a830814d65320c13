export { invalidArchive } from './format.js';
export type { AnyManifest, ArchiveFacts, ArchiveMember, BoxliteManifest, Manifest } from './manifest.js';
export { isOurs } from './manifest.js';
export { type ReadArchive, type ReadArchiveOptions, type ReadMember, readArchive } from './reader.js';
export { type MemberSource, type WriteArchiveOptions, type WrittenArchive, writeArchive } from './writer.js';
