import type { CapabilityOptions, NetworkOptions, VolumeMount } from '../../api/index.js';

/** What of a box is stored as JSON: everything about its processes. */
export interface BoxConfig {
  readonly env: Readonly<Record<string, string>>;
  readonly workingDir: string;
  readonly user: string;
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly network: Required<NetworkOptions>;
  readonly capabilities: CapabilityOptions;
  readonly volumes: readonly VolumeMount[];
}
