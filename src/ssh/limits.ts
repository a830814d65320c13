/** What one connection may take. Each is far above what clients of SSH ask for, and far below what hurts the host. */
export const sshLimits = {
  /**
   * From the first byte to the login, in which the box may have to be started: a client that stops on the way holds nothing
   * for longer.
   */
  handshakeMs: 60_000,
  /** Keys a client may offer, as servers of OpenSSH allow. */
  attempts: 6,
  /** Commands, shells and file transfers at once over one connection, as servers of OpenSSH allow. */
  sessions: 10,
  /** Forwarded connections at once, as a published port takes. */
  forwards: 256,
  /** Variables a client may set for one session, and their bytes: they go into one request to the agent. */
  variables: 64,
  variableBytes: 32 * 1024,
  /** How long a command may take to end by SIGHUP when its client is gone, before it is killed. */
  hangUpMs: 2000,
  /** Open files and directories of one file transfer: each has a file of the host behind it. */
  handles: 64,
  /** Requests of a file transfer that wait for their answer: OpenSSH has 64, and each may carry a quarter of a MiB. */
  requests: 256,
  /** Bytes of one answer to a read; clients ask for 32 KiB. */
  readBytes: 64 * 1024,
  /** Size of a file that is written by a file transfer: the largest disk of a box. */
  fileBytes: 1024 ** 4,
  /** Entries of a directory in one answer, which has to fit into the packets that clients take (256 KiB). */
  names: 64,
  /** Links that are followed for one path, as Linux does. */
  links: 40,
} as const;
