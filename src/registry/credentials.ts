/** Credentials as docker keeps them (docker CLI documentation, "docker login", "Credential helpers"). */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { environmentValue, userHome } from '../base/environment.js';
import { runProcess } from '../base/process/index.js';
import { CryoboxError, errnoOf, messageOf } from '../errors.js';
import { defaultRegistry } from '../formats/oci/reference.js';

/** Who asks a registry: name and password, or a token that is exchanged for others. */
export interface RegistryCredentials {
  readonly username: string;
  /** Password, or access token of the kind registries hand out in place of one. */
  readonly password: string;
  /** A refresh token (OAuth 2); the password is not used then. */
  readonly identityToken?: string;
}

/** Finds the credentials for a registry, or none. */
export type CredentialSource = (registry: string) => Promise<RegistryCredentials | undefined>;

/** The name under which docker keeps the credentials of the default registry. */
const defaultRegistryKey = `https://index.${defaultRegistry}/v1/`;
/** Real files have a few hundred bytes. */
const maxConfigBytes = 1024 * 1024;
const maxHelperOutputBytes = 64 * 1024;
/** A helper may have to wake a key ring; longer is a hang. */
const helperMs = 15_000;

const configSchema = z.object({
  auths: z
    .record(
      z.string(),
      z.object({
        auth: z.string().nullish(),
        username: z.string().nullish(),
        password: z.string().nullish(),
        identitytoken: z.string().nullish(),
      }),
    )
    .nullish(),
  credHelpers: z.record(z.string(), z.string()).nullish(),
  credsStore: z.string().nullish(),
});

const helperSchema = z.object({ Username: z.string(), Secret: z.string() });
/** A helper's name becomes part of a program's name. */
const helperPattern = /^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$/;
/** What a helper gives as user name with an identity token. */
const tokenUser = '<token>';

/** The directory of docker's configuration: `DOCKER_CONFIG`, else `~/.docker`. */
export function dockerConfigDirectory(): string {
  return environmentValue('DOCKER_CONFIG') ?? join(userHome(), '.docker');
}

/**
 * Reads credentials from docker's `config.json` in a directory: the registry's own helper, else the common store, else
 * `auths`. Throws `config_error` when the file or a helper is broken; a file that does not exist holds nothing.
 */
export function dockerCredentials(directory: string): CredentialSource {
  const file = join(directory, 'config.json');
  return async (registry) => {
    const config = await readConfig(file);
    if (!config) return undefined;
    const keys = keysOf(registry);
    const helper = keys.map((key) => config.credHelpers?.[key]).find(Boolean) ?? config.credsStore;
    if (helper) {
      for (const key of keys) {
        const found = await askHelper(helper, key);
        if (found) return found;
      }
    }
    for (const key of keys) {
      const entry = config.auths?.[key];
      if (entry) return parseEntry(entry, file);
    }
    return undefined;
  };
}

function keysOf(registry: string): string[] {
  if (registry === defaultRegistry) return [defaultRegistryKey, registry];
  return [
    registry,
    `https://${registry}`,
    `https://${registry}/v2/`,
    `https://${registry}/v1/`,
    `http://${registry}`,
  ];
}

async function readConfig(file: string): Promise<z.infer<typeof configSchema> | undefined> {
  try {
    if ((await stat(file)).size > maxConfigBytes) throw new Error(`it has more than ${maxConfigBytes} bytes`);
    return configSchema.parse(JSON.parse(await readFile(file, 'utf8')));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined;
    // The parser's message may quote the file, which holds secrets.
    const reason =
      error instanceof z.ZodError || error instanceof SyntaxError
        ? 'it is not in the form docker writes'
        : messageOf(error);
    throw new CryoboxError('config_error', `cannot read registry credentials from ${file}: ${reason}`, {
      hint: 'Repair or remove the file, or point DOCKER_CONFIG at another directory.',
    });
  }
}

type Entry = NonNullable<NonNullable<z.infer<typeof configSchema>['auths']>[string]>;

function parseEntry(entry: Entry, file: string): RegistryCredentials | undefined {
  const identityToken = entry.identitytoken || undefined;
  if (entry.auth) {
    // `auth` is base64 of name:password; a password may hold colons.
    const text = Buffer.from(entry.auth, 'base64').toString('utf8').replace(/\0+$/, '');
    const colon = text.indexOf(':');
    if (colon <= 0)
      throw new CryoboxError('config_error', `an auth in ${file} is no base64 of name:password`);
    return { username: text.slice(0, colon), password: text.slice(colon + 1), identityToken };
  }
  if (entry.username && entry.password)
    return { username: entry.username, password: entry.password, identityToken };
  return identityToken ? { username: tokenUser, password: '', identityToken } : undefined;
}

/** Asks `docker-credential-NAME get`: the registry on its input, a JSON document or a message on its output. */
async function askHelper(name: string, key: string): Promise<RegistryCredentials | undefined> {
  if (!helperPattern.test(name))
    throw new CryoboxError(
      'config_error',
      `${JSON.stringify(name.slice(0, 100))} is no name of a credential helper`,
    );
  const { code, output } = await runHelper(`docker-credential-${name}`, key);
  if (code !== 0) {
    if (/not found/i.test(output)) return undefined;
    throw new CryoboxError('config_error', `docker-credential-${name} failed with ${code} for ${key}`, {
      hint: 'Run docker login again, or remove the helper from the docker configuration.',
    });
  }
  const parsed = helperSchema.safeParse(parseJson(output));
  if (!parsed.success)
    throw new CryoboxError(
      'config_error',
      `docker-credential-${name} answered in a form that is not the protocol's`,
    );
  const { Username: username, Secret: secret } = parsed.data;
  if (username === tokenUser) return { username, password: '', identityToken: secret };
  return { username, password: secret };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

async function runHelper(command: string, input: string): Promise<{ code: number | null; output: string }> {
  const { code, stdout } = await runProcess(command, {
    args: ['get'],
    input,
    maxOutputBytes: maxHelperOutputBytes,
    timeoutMs: helperMs,
    // It may be a script: what it started ends with it.
    session: true,
    installHint: 'Install the helper, or remove it from the docker configuration.',
  });
  return { code, output: stdout.toString('utf8') };
}
