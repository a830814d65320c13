import type { BoxSecrets, CallOptions, SecretChange, SecretInfo } from '../../api/index.js';
import { throwIfCancelled } from '../../base/abort.js';
import { CryoboxError } from '../../errors.js';
import { policyOf } from '../../network/index.js';
import { type BoxRow, changeBox, deleteSecret, putSecrets, secretsOf } from '../../store/index.js';
import { applyOrEnd } from '../machines/gateways.js';
import { exclusively } from '../machines/locked.js';
import { installTrust } from '../machines/trust.js';
import { type BoxConfig, parseConfig, type SecretConfigs } from '../record/config.js';
import { configOf, requireRow } from '../record/rows.js';
import { withSecret } from '../record/secrets.js';
import type { EngineContext } from './context.js';
import { refuseWhatCannotChange } from './network.js';

/** The secrets of a box of the engine. */
export class EngineSecrets implements BoxSecrets {
  readonly #ctx: EngineContext;
  readonly #id: string;

  constructor(ctx: EngineContext, id: string) {
    this.#ctx = ctx;
    this.#id = id;
  }

  async list({ signal }: CallOptions = {}): Promise<SecretInfo[]> {
    throwIfCancelled(signal, 'the look at secrets');
    const { secrets = {} } = configOf(await requireRow(this.#ctx.db, this.#id));
    const kept = new Set((await secretsOf(this.#ctx.db, this.#id)).map(({ name }) => name));
    return Object.entries(secrets)
      .map(([name, { placeholder, hosts }]) => ({ name, placeholder, hosts, hasValue: kept.has(name) }))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  async set(name: string, { signal, ...secret }: SecretChange): Promise<SecretInfo> {
    const set = async (row: BoxRow): Promise<void> => {
      const config = configOf(row);
      const secrets = withSecret(config.secrets ?? {}, config.env, name, secret);
      await this.#change(row, withSecrets(config, secrets), { name, value: secret.value });
    };
    await exclusively(this.#ctx, this.#id, 'secrets.change', set, signal);
    const found = (await this.list()).find((info) => info.name === name);
    if (!found) throw missing(this.#id, name);
    return found;
  }

  async remove(name: string, { signal }: CallOptions = {}): Promise<void> {
    const remove = async (row: BoxRow): Promise<void> => {
      const config = configOf(row);
      const { secrets = {} } = config;
      if (!Object.hasOwn(secrets, name)) throw missing(row.id, name);
      const rest = Object.fromEntries(Object.entries(secrets).filter(([other]) => other !== name));
      await this.#change(row, withSecrets(config, rest), { name });
    };
    await exclusively(this.#ctx, this.#id, 'secrets.change', remove, signal);
  }

  async #change(
    before: BoxRow,
    config: BoxConfig,
    { name, value }: { readonly name: string; readonly value?: string | undefined },
  ): Promise<void> {
    const ctx = this.#ctx;
    const row = { ...before, config: JSON.stringify(config) };
    const { network, secrets = {} } = parseConfig(row.config);
    const live = ctx.live.get(row.id);
    refuseWhatCannotChange(ctx, before, live, network);
    // Settings that cannot be understood are told before anything changes.
    await policyOf(ctx.paths.network, network);
    // A machine that cannot be told to trust the certificate keeps what it had.
    if (live) await installTrust(ctx, live.agent, row);
    const rows = value === undefined ? [] : await ctx.vault.seal(row.id, new Map([[name, value]]));
    await ctx.commits.run(async (tx) => {
      await putSecrets(tx, rows);
      if (!Object.hasOwn(secrets, name)) await deleteSecret(tx, row.id, name);
      await changeBox(tx, row.id, { config: row.config, updated_at: Date.now() });
    });
    if (live?.gateway) await applyOrEnd(ctx, live.machine, live.gateway, row);
  }
}

function withSecrets(config: BoxConfig, secrets: SecretConfigs): BoxConfig {
  const { secrets: _, ...rest } = config;
  return Object.keys(secrets).length === 0 ? rest : { ...rest, secrets };
}

const missing = (box: string, secret: string): CryoboxError =>
  new CryoboxError('not_found', `box ${box} has no secret ${JSON.stringify(secret.slice(0, 128))}`, {
    hint: '`cryobox secret BOX` lists those that it has.',
    details: { box },
  });
