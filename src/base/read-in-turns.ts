import type { Socket } from 'node:net';
import { Turns } from './turns.js';

/** What is made of the bytes of a socket. Neither may throw. */
export interface SteppedReader {
  /** Keeps bytes that have come. */
  take(bytes: Buffer): void;
  /** Does the next piece of work, which takes a few milliseconds at most. False when it needs more bytes. */
  step(): boolean;
}

/** A socket that is read in turns. */
export interface TurnedSocket {
  /** Runs a task at once, or after the steps that what has come still needs: for the end of the socket. */
  afterwards(task: () => void): void;
}

/**
 * Reads a socket whose other side may send much work in few bytes, or without end: others get turns between the steps,
 * and the socket is not read on meanwhile. Within one turn everything is done at once.
 */
export function readInTurns(socket: Socket, reader: SteppedReader): TurnedSocket {
  let turns: Turns | undefined;
  let isWaiting = false;
  let last: (() => void) | undefined;

  /** One budget for all that one turn of the event loop reads: a full socket is read many times in it. */
  const turnsOfNow = (): Turns => {
    if (turns === undefined) {
      turns = new Turns();
      setImmediate(() => {
        turns = undefined;
      });
    }
    return turns;
  };

  const work = (): void => {
    isWaiting = false;
    while (reader.step()) {
      const turn = turnsOfNow().chunk();
      if (turn === undefined) continue;
      isWaiting = true;
      socket.pause();
      turn.then(work, work);
      return;
    }
    if (last !== undefined) last();
    else if (socket.isPaused()) socket.resume();
  };

  socket.on('data', (bytes: Buffer) => {
    reader.take(bytes);
    if (!isWaiting) work();
  });
  return {
    afterwards: (task) => {
      if (isWaiting) last = task;
      else task();
    },
  };
}
