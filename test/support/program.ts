import { execa } from 'execa';

/** No program of a test takes longer, unless it hangs. */
const limitMs = 180_000;

/**
 * Runs a program that embeds the package, as a process of its own: `code` is the body of an async function with `Cryobox`
 * in scope, and `say` for a line on stdout. Never rejects for an exit code.
 */
export function spawnProgram(home: string, code: string) {
  const main = `
    import { Cryobox } from ${JSON.stringify(new URL('../../dist/index.js', import.meta.url).href)};
    const say = (text) => new Promise((done) => process.stdout.write(text + '\\n', done));
    const line = async () => { for await (const chunk of process.stdin) return String(chunk).trim(); };
    ${code}
  `;
  return execa(process.execPath, ['--input-type=module', '-e', main], {
    env: { CRYOBOX_HOME: home },
    reject: false,
    timeout: limitMs,
  });
}
