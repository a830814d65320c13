import { isIPv4 } from 'node:net';
import type { NetworkInfo, NetworkOptions } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';

/** Every address, as clients write it. */
const everything = '0.0.0.0/0';

/** What clients say of where a sandbox may connect to. */
interface Egress {
  readonly allowOut?: readonly string[] | null | undefined;
  readonly denyOut?: readonly string[] | null | undefined;
  /** False: as `denyOut` of everything. */
  readonly allowInternet?: boolean | null | undefined;
}

/**
 * The network of a box that is what clients ask for. Each has a list, if only of everything: the network of a box without one
 * could not change while it runs. Throws `invalid_argument`, `unsupported`.
 */
export function networkOf({ allowOut, denyOut, allowInternet }: Egress): NetworkOptions {
  const allow = (allowOut ?? []).map((rule) => (rule === everything ? '*' : rule));
  const deny = denyOut ?? [];
  if (allowInternet === false || deny.includes(everything)) {
    if (allow.length === 0) return { outbound: 'disabled', allowNet: ['*'], denyNet: [] };
    return { outbound: 'enabled', allowNet: allow, denyNet: [] };
  }
  const name = allow.find((rule) => rule !== '*' && !isIPv4(rule.split(/[/:]/)[0] ?? ''));
  if (name !== undefined) {
    throw new CryoboxError(
      'invalid_argument',
      `allowOut has the name ${JSON.stringify(name)}, and denyOut not ${everything}`,
      { hint: `Names are allowed only where all else is denied: put ${everything} into denyOut.` },
    );
  }
  if (deny.length === 0) return { outbound: 'enabled', allowNet: ['*'], denyNet: [] };
  if (allow.length > 0) {
    throw new CryoboxError(
      'unsupported',
      `allowOut beside a denyOut without ${everything} is not supported`,
      {
        hint: `Put ${everything} into denyOut, and what is reached into allowOut; or leave allowOut out.`,
        details: { options: ['allowOut'] },
      },
    );
  }
  return { outbound: 'enabled', allowNet: [], denyNet: deny };
}

/** The inverse of {@link networkOf}, as clients are told it. */
export function egressOf({ outbound, allowNet, denyNet }: Pick<NetworkInfo, keyof NetworkOptions>) {
  if (outbound === 'disabled') return { denyOut: [everything] };
  if (allowNet.includes('*')) return {};
  return allowNet.length > 0
    ? { allowOut: allowNet, denyOut: [everything, ...denyNet] }
    : { denyOut: denyNet };
}
