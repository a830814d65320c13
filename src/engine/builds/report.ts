import { buildLimits, type ProgressOptions } from '../../api/index.js';
import type { BuildLog } from './context.js';

/** Longest line of output that is told; longer ones come in pieces of it. */
const maxLineChars = 4096;

/** Tells a build's steps and output as progress; of output no more than a limit in all. */
export function reporter(onProgress: ProgressOptions['onProgress']): BuildLog {
  let told = 0;
  const tell = (stage: string, item: string): void => onProgress?.({ stage, item, doneBytes: 0 });
  return {
    step: (text) => tell('step', text),
    output: (line) => {
      if (told > buildLimits.toldBytes) return;
      for (let at = 0; at === 0 || at < line.length; at += maxLineChars) {
        const piece = line.slice(at, at + maxLineChars);
        told += piece.length + 1;
        if (told <= buildLimits.toldBytes) tell('output', piece);
        else return tell('output', `(more than ${buildLimits.toldBytes} bytes of output are not shown)`);
      }
    },
  };
}
