import { sql } from 'kysely';
import { faultPoint } from '../base/faults.js';
import { errnoOf } from '../errors.js';
import { type Database, databaseError } from './database.js';

interface Job {
  readonly task: (tx: Database) => Promise<unknown>;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/** Most changes that share a commit, so that the first of them does not wait for too many. */
const maxJobs = 128;

/**
 * Makes changes durable together: those that are asked for while a commit is under way share the next one, since the
 * disk takes as long for many as for one. Each change is all or nothing by itself (a savepoint).
 */
export class GroupCommit {
  readonly #db: Database;
  readonly #queue: Job[] = [];
  #running = false;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Runs `task` in a transaction; resolves with what it returns once that is durable. */
  run<T>(task: (tx: Database) => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#queue.push({ task, resolve: resolve as (value: unknown) => void, reject });
      // It hands every failure to the jobs it concerns, and has none of its own.
      if (!this.#running) this.#drain().catch(reject);
    });
  }

  async #drain(): Promise<void> {
    this.#running = true;
    // What is asked for in the same turn of the event loop belongs to the first commit.
    await Promise.resolve();
    while (this.#queue.length > 0) await this.#commit(this.#queue.splice(0, maxJobs));
    this.#running = false;
  }

  async #commit(jobs: readonly Job[]): Promise<void> {
    const settle: (() => void)[] = [];
    try {
      await this.#db.connection().execute(async (connection) => {
        // Takes everything written before it along: the log is one file.
        await sql`pragma synchronous = FULL`.execute(connection);
        try {
          await connection.transaction().execute(async (tx) => {
            for (const job of jobs) settle.push(await attempt(tx, job));
            faultPoint('commit:before');
          });
        } finally {
          await sql`pragma synchronous = NORMAL`.execute(connection);
        }
      });
      faultPoint('commit:after');
      for (const tell of settle) tell();
    } catch (error) {
      for (const job of jobs) job.reject(databaseError(error));
    }
  }
}

/** Runs one change inside a savepoint; returns how its caller is told once everything is durable. */
async function attempt(tx: Database, job: Job): Promise<() => void> {
  await sql`savepoint job`.execute(tx);
  try {
    const value = await job.task(tx);
    await sql`release savepoint job`.execute(tx);
    return () => job.resolve(value);
  } catch (error) {
    // A full disk takes the whole transaction with it.
    if (errnoOf(error) === 'SQLITE_FULL') throw error;
    await sql`rollback to savepoint job`.execute(tx);
    await sql`release savepoint job`.execute(tx);
    return () => job.reject(error);
  }
}
