import { CryoboxError } from '../../errors.js';
import { STREAM_MAGIC, STREAM_VERSION, sectionType } from './format.js';

/**
 * Most bytes of device sections. 125 to 400 KB are normal; a virtio device's queues and a framebuffer's registers stay
 * far below. The limit keeps a damaged file or a hostile stream from filling memory.
 */
export const MAX_DEVICE_STATE_BYTES = 32 * 1024 * 1024;

const headerBytes = 8;

/**
 * A device state file is what QMP `xen-save-devices-state` writes: magic, version, full device sections, end byte; no
 * memory and no configuration. The state cut from a migration stream is kept in the same form.
 * Returns the sections alone, ready to be put behind the memory part of a stream.
 * @throws integrity when it is not such a file.
 */
export function parseDeviceState(file: Buffer): Buffer {
  const wrong = (what: string): CryoboxError =>
    new CryoboxError('integrity', `device state: expected ${what}; the file has ${file.length} bytes`);
  if (file.length > MAX_DEVICE_STATE_BYTES) throw wrong(`at most ${MAX_DEVICE_STATE_BYTES} bytes`);
  if (file.length < headerBytes + 2) throw wrong('a header and at least one section');
  if (file.readUInt32BE(0) !== STREAM_MAGIC) throw wrong('the magic QEVM');
  if (file.readUInt32BE(4) !== STREAM_VERSION) throw wrong(`stream version ${STREAM_VERSION}`);
  if (file[headerBytes] !== sectionType.full) throw wrong('a full device section after the header');
  if (file[file.length - 1] !== sectionType.endOfFile) throw wrong('the end byte 0x00');
  return file.subarray(headerBytes, file.length - 1);
}

/** The inverse of {@link parseDeviceState}: a device state file of bare sections. */
export function encodeDeviceState(sections: Buffer): Buffer {
  const header = Buffer.alloc(headerBytes);
  header.writeUInt32BE(STREAM_MAGIC, 0);
  header.writeUInt32BE(STREAM_VERSION, 4);
  return Buffer.concat([header, sections, Buffer.from([sectionType.endOfFile])]);
}
