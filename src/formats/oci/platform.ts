import { CryoboxError } from '../../errors.js';

/** What a program in an image needs to run (OCI image spec, "Image Index", platform). */
export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
}

const goArchitectures: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' };

/** Linux on the host's processor, in the names images use. */
export function hostPlatform(): Platform {
  return { os: 'linux', architecture: goArchitectures[process.arch] ?? process.arch };
}

/** Parses `linux/amd64` or `linux/arm64/v8`. Throws `invalid_argument`. */
export function parsePlatform(text: string): Platform {
  const match = /^([a-z0-9]{1,32})\/([a-z0-9_]{1,32})(?:\/([a-z0-9.]{1,32}))?$/.exec(text);
  if (!match) {
    throw new CryoboxError(
      'invalid_argument',
      `a platform is written as os/architecture[/variant], got ${JSON.stringify(text.slice(0, 100))}`,
    );
  }
  const [, os = '', architecture = '', variant] = match;
  return variant === undefined ? { os, architecture } : { os, architecture, variant };
}

/** `linux/amd64`, `linux/arm64/v8`. */
export function formatPlatform({ os, architecture, variant }: Platform): string {
  return [os, architecture, ...(variant ? [variant] : [])].join('/');
}

/** Whether an image for `offered` runs where `wanted` is asked for; arm64 without a variant is v8. */
export function platformMatches(offered: Platform, wanted: Platform): boolean {
  if (offered.os !== wanted.os || offered.architecture !== wanted.architecture) return false;
  return wanted.variant === undefined || wanted.variant === variantOf(offered);
}

function variantOf({ architecture, variant }: Platform): string | undefined {
  return variant ?? (architecture === 'arm64' ? 'v8' : undefined);
}
