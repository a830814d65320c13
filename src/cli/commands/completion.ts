import type { Command as Commander } from 'commander';
import { createCommand } from '../command.js';
import { required, rest } from '../specs.js';
import { oneOf } from '../values.js';

const shells = {
  bash: `_cryobox() {
  local IFS=$'\\n'
  COMPREPLY=($(cryobox complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
  [[ \${#COMPREPLY[@]} -eq 0 ]] && compopt -o default
}
complete -F _cryobox cryobox
`,
  zsh: `#compdef cryobox
_cryobox() {
  local -a found
  found=("\${(@f)$(cryobox complete -- "\${words[@]:1:$((CURRENT-1))}" 2>/dev/null)}")
  if [[ -n "\${found[1]}" ]]; then compadd -- "\${found[@]}"; else _files; fi
}
if [ "$funcstack[1]" = "_cryobox" ]; then _cryobox; else compdef _cryobox cryobox; fi
`,
  fish: `function __cryobox_complete
  set -l words (commandline -opc) (commandline -ct)
  cryobox complete -- $words[2..-1] 2>/dev/null
end
complete -c cryobox -f -n 'count (__cryobox_complete) >/dev/null' -a '(__cryobox_complete)'
`,
} as const;

export const completion = createCommand({
  name: 'completion',
  summary: 'print a script that completes command lines, for bash, zsh or fish',
  args: { shell: required('shell', 'bash, zsh or fish') },
  options: {},
  async handler(context, { shell }) {
    await context.stdout.write(shells[oneOf('bash', 'zsh', 'fish')(shell)]);
  },
});

/** What the scripts ask: words that may stand where the last one is. */
export const complete = createCommand({
  name: 'complete',
  summary: 'print what may follow a command line',
  hidden: true,
  passThrough: true,
  args: { words: rest('word', 'the command line up to the cursor, without the program') },
  options: {},
  async handler(context, { words }, _, command) {
    const root = rootOf(command);
    const last = words.at(-1) ?? '';
    const { at, operands } = walk(root, words.slice(0, -1));
    const candidates = last.startsWith('-') ? optionsOf(at) : await wordsOf(at, operands, boxNames);
    for (const candidate of [...new Set(candidates)].sort()) {
      if (candidate.startsWith(last)) await context.stdout.line(candidate);
    }

    /** Names of boxes, where an engine runs: completing starts none. */
    async function boxNames(): Promise<readonly string[]> {
      const { home, url } = context.connection;
      if (url === undefined) {
        const { engineStatus } = await import('../../home/control.js');
        if (!(await engineStatus(home)).answering) return [];
      }
      const boxes = await (await context.runtime()).list({ signal: context.signal });
      return boxes.map(({ id, name }) => name ?? id);
    }
  },
});

const rootOf = (command: Commander): Commander => (command.parent ? rootOf(command.parent) : command);

/** The command that words lead to, and how many arguments of its own they hold. */
function walk(root: Commander, words: readonly string[]): { at: Commander; operands: number } {
  let at = root;
  let operands = 0;
  let isValue = false;
  for (const word of words) {
    if (isValue) isValue = false;
    else if (word.startsWith('-')) {
      const option = at.options.find(({ short, long }) => short === word || long === word);
      isValue = option?.required ?? false;
    } else {
      const child = at.commands.find((it) => it.name() === word || it.aliases().includes(word));
      if (child && operands === 0) at = child;
      else operands += 1;
    }
  }
  return { at, operands };
}

function optionsOf(command: Commander): readonly string[] {
  const visible = command.createHelp().visibleOptions(command);
  return visible.flatMap(({ long, short }) => long ?? short ?? []);
}

async function wordsOf(
  command: Commander,
  operands: number,
  boxNames: () => Promise<readonly string[]>,
): Promise<readonly string[]> {
  const children = command.createHelp().visibleCommands(command);
  if (children.length > 0) return children.map((child) => child.name());
  const args = command.registeredArguments;
  const argument = args[operands] ?? (args.at(-1)?.variadic ? args.at(-1) : undefined);
  if (argument?.name() === 'shell') return Object.keys(shells);
  return argument?.name() === 'box' ? await boxNames() : [];
}
