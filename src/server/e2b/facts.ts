import { z } from 'zod';
import type { BoxInfo } from '../../api/index.js';

/** Labels that begin so say what E2B knows of a box and we do not; all others are the metadata of its owner. */
const prefix = 'e2b.';

/** What E2B's clients said at the creation of a sandbox. */
export interface Facts {
  /** The template as it was named. */
  readonly template: string;
  /** Whether traffic resumes it. */
  readonly autoResume: boolean;
  /** Whether its token is asked for. */
  readonly secure: boolean;
  /** What is said of the way to its ports. */
  readonly ports: PortFacts;
}

const portFacts = z.object({
  /** False: only with a token. */
  allowPublicTraffic: z.boolean(),
  /** Stands for `Host`; `${PORT}` in it is the port. */
  maskRequestHost: z.string().optional(),
  /** Ports whose programs speak TLS. */
  httpsPorts: z.array(z.number()).optional(),
});

/** How the ports of a sandbox are reached. */
type PortFacts = z.infer<typeof portFacts>;

/** Those of a box that was not made by this dialect: nobody has said that all the world may see it. */
const closedPorts: PortFacts = { allowPublicTraffic: false };

/** Whether the metadata of a sandbox may have a key. */
export function isMetadataKey(key: string): boolean {
  return !key.startsWith(prefix);
}

/** Labels of a new box. */
export function labelsOf(facts: Facts, metadata: Readonly<Record<string, string>>): Record<string, string> {
  return {
    ...metadata,
    [`${prefix}template`]: facts.template,
    [`${prefix}auto-resume`]: String(facts.autoResume),
    [`${prefix}secure`]: String(facts.secure),
    [`${prefix}ports`]: JSON.stringify(facts.ports),
  };
}

/** What is known of a box; one that E2B's clients did not make wakes as its own options say. */
export function factsOf({ labels, template, image, autoResume }: BoxInfo): Facts {
  const label = (name: string): string | undefined => labels[prefix + name];
  return {
    template: label('template') ?? template ?? image,
    autoResume: label('auto-resume') === undefined ? autoResume : label('auto-resume') === 'true',
    secure: label('secure') !== 'false',
    ports: portFactsOf(label('ports')),
  };
}

/** What its own server wrote, and whoever has the labels of a box may have changed. */
function portFactsOf(text: string | undefined): PortFacts {
  try {
    return portFacts.parse(JSON.parse(text ?? ''));
  } catch {
    return closedPorts;
  }
}

/** The metadata of a sandbox: the labels that are its owner's. */
export function metadataOf({ labels }: BoxInfo): Record<string, string> {
  return Object.fromEntries(Object.entries(labels).filter(([key]) => isMetadataKey(key)));
}
