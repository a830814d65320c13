import { type JsonObject, number, text } from './json.js';

/**
 * What an engine is part of: a process of its own that ends when nobody needs it, `cryobox serve`, or a program that
 * embeds it.
 */
export const engineKinds = ['background', 'serve', 'in-process'] as const;

/** One of {@link engineKinds}. */
export type EngineKind = (typeof engineKinds)[number];

/** Which engine answers on the socket of a home. */
export interface EngineHello {
  readonly version: string;
  readonly pid: number;
  readonly kind: EngineKind;
}

/** An {@link EngineHello} of an answer; a kind of a later release counts as one that is not asked to go. */
export function engineHelloFrom(json: JsonObject): EngineHello {
  const kind = engineKinds.find((it) => it === json['kind']) ?? 'serve';
  return { version: text(json, 'version'), pid: number(json, 'pid'), kind };
}
