import type { Box } from '../../src/api/index.js';
import { output } from './support.js';

const program = (bytes: number): string => `
import hashlib, os, random, time
data = bytearray(os.urandom(${bytes}))
counter = 0
def say(name, text):
    open(name + '.new', 'w').write(text)
    os.rename(name + '.new', name)
while True:
    say('/run/answer', f'{counter} {hashlib.md5(data).hexdigest()} {os.getpid()}')
    while not os.path.exists('/run/ask'):
        time.sleep(0.05)
    change = open('/run/ask').read() == 'change'
    os.remove('/run/ask')
    if change:
        counter += 1
        at = random.randrange(len(data) - ${Math.ceil(bytes / 25)})
        data[at:at + ${Math.ceil(bytes / 25)}] = os.urandom(${Math.ceil(bytes / 25)})
`;

/** Starts a Python program that holds so many random bytes and a counter. Returns its first answer. */
export async function startProgram(box: Box, bytes: number): Promise<string> {
  await output(box, 'mkdir -p /run');
  await box.files.write('/run/program.py', program(bytes));
  await box.startExec(['python3', '/run/program.py']);
  return await answer(box);
}

const answer = (box: Box): Promise<string> =>
  output(box, 'until [ -e /run/answer ]; do sleep 0.1; done; cat /run/answer');

/**
 * Counter, hash of the bytes and process id, as the program finds them now; `change` counts one up and puts other random
 * bytes into a part of its memory first.
 */
export async function ask(box: Box, what: 'look' | 'change'): Promise<string> {
  await output(box, `rm /run/answer; printf ${what} > /run/asking; mv /run/asking /run/ask`);
  return await answer(box);
}
