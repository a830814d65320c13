import { isCryoboxError } from '../../errors.js';
import type { AgentClient } from '../../guest/index.js';
import type { BoxRow } from '../../store/index.js';
import { configOf } from '../record/rows.js';
import type { MachinesContext } from './context.js';

/** The certificate alone, and with the roots of the image. */
const ownPath = '/etc/cryobox/ca.pem';
const bundlePath = '/etc/cryobox/ca-bundle.pem';
/** Where images have their roots: Debian, Alpine and Arch, Fedora, SUSE, BSD's LibreSSL and what follows it. */
const systemBundles = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
];
/** Where `update-ca-certificates` finds it when it makes the bundle anew. */
const addedDirectory = '/usr/local/share/ca-certificates';
/** Bundles have a quarter of a mebibyte. */
const maxBundleBytes = 4 * 1024 * 1024;

/**
 * Has the programs of a box with secrets trust what puts the values in: its certificate goes into the stores of the image.
 * Nothing is written where it is already. Throws what writing a file throws.
 */
export async function installTrust(ctx: MachinesContext, agent: AgentClient, row: BoxRow): Promise<void> {
  if (!configOf(row).secrets) return;
  const certificate = await ctx.interception.certificate();
  if ((await readText(agent, ownPath)) === certificate) return;
  let bundle = certificate;
  for (const path of systemBundles) {
    const text = await readText(agent, path);
    if (text === undefined) continue;
    const joined = text.includes(certificate.trim()) ? text : `${text.trimEnd()}\n${certificate}`;
    if (joined !== text) await write(agent, path, joined);
    if (bundle === certificate) bundle = joined;
  }
  if (await exists(agent, addedDirectory)) await write(agent, `${addedDirectory}/cryobox.crt`, certificate);
  await write(agent, bundlePath, bundle);
  // The last: who finds it finds the others.
  await write(agent, ownPath, certificate);
}

async function exists(agent: AgentClient, path: string): Promise<boolean> {
  try {
    await agent.files.stat(path, { follow: true });
    return true;
  } catch (error) {
    if (isCryoboxError(error, 'not_found')) return false;
    throw error;
  }
}

async function readText(agent: AgentClient, path: string): Promise<string | undefined> {
  if (!(await exists(agent, path))) return undefined;
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of agent.files.read(path)) {
    bytes += chunk.byteLength;
    // A box may make it anything: what is no bundle is left alone.
    if (bytes > maxBundleBytes) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

async function write(agent: AgentClient, path: string, text: string): Promise<void> {
  async function* content(): AsyncGenerator<Uint8Array> {
    yield Buffer.from(text);
  }
  await agent.files.write(path, content(), { mode: 0o644, createParents: true });
}
