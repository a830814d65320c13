/** A secret of a box, as the interceptor uses it. */
export interface InterceptedSecret {
  readonly name: string;
  /** What stands for the value in the box. */
  readonly placeholder: string;
  /** Null: it was lost, and has to be set again. */
  readonly value: string | null;
  /** Where it may go. */
  readonly servers: readonly {
    /** A name, or `*.suffix`. */
    readonly name: string;
    readonly firstPort: number;
    readonly lastPort: number;
    /** Whether by TLS, or without. */
    readonly tls: boolean;
  }[];
}

/** The authority that boxes with secrets trust, as PEM. */
export interface Authority {
  readonly key: string;
  readonly certificate: string;
}

/** First line that the interceptor gets on its standard input. */
export interface InterceptorStart {
  readonly authority: Authority;
  /** Who it goes on as, when the engine is root. */
  readonly user?: { readonly uid: number; readonly gid: number } | undefined;
}

/** Every other line. It ends when there are no more. */
export type InterceptorOrder =
  | {
      readonly serve: string;
      readonly secrets: readonly InterceptedSecret[];
      /** Roots that certificates of servers are checked against, as PEM; null: those that came with Node. */
      readonly roots: readonly string[] | null;
    }
  | { readonly forget: string };

/** Lines that it writes: `ready` once, then what it refused. */
export type InterceptorWord = { readonly ready: true } | InterceptorRefusal;

/** A request that was refused. */
export interface InterceptorRefusal {
  /** Whose it was. */
  readonly token: string;
  readonly reason: 'secret_host' | 'host' | 'certificate';
  readonly name: string;
  readonly port: number;
}

/** First line of every connection: what a gateway says of it (gateway/src/handover.rs). */
export interface HandedOver {
  readonly token: string;
  /** The server that the client asked for. */
  readonly name: string;
  readonly address: string;
  readonly port: number;
  /** Whether the client speaks TLS, which is ended here then. */
  readonly tls: boolean;
}

/** Where it listens, in its directory and in those of machines. */
export const interceptorSocket = 'intercept.sock';
