// The page of the command line, made from what its help says.

/** Text of the page for a program of commander's. */
export function cliPage(program) {
  const parts = ['# Command line', '', 'What `--help` of each command says.', '', ...fence(program), ''];
  for (const command of shown(program)) addCommand(parts, command);
  return parts.join('\n');
}

function addCommand(parts, command) {
  parts.push(`## ${nameOf(command)}`, '', ...fence(command), '');
  for (const child of shown(command)) addCommand(parts, child);
}

/** The commands of a command that its help names, without the one that shows help. */
function shown(command) {
  const named = command.createHelp().visibleCommands(command);
  return command.commands.filter((child) => named.includes(child));
}

function nameOf(command) {
  return command.parent ? `${nameOf(command.parent)} ${command.name()}` : command.name();
}

/** The help as it is printed, with what is said before and after it. */
function fence(command) {
  let text = '';
  command.configureOutput({
    writeOut: (piece) => {
      text += piece;
    },
    getOutHelpWidth: () => 100,
    getOutHasColors: () => false,
  });
  command.outputHelp();
  return ['```text', text.trim(), '```'];
}
