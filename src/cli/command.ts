import { Argument, type Command as Commander, Option } from 'commander';
import { CryoboxError } from '../errors.js';
import type { Connection, Context } from './context.js';

/** An option as data: flags in commander's syntax, what it means, how its text becomes a value. */
export interface OptionSpec<T> {
  readonly flags: string;
  readonly summary: string;
  /** Its value when it is not given. */
  readonly initial: T;
  /** Absent: the text itself, or true for an option without a value. */
  parse?(text: string, earlier: T): T;
}

/** A positional argument as data: `<name>` is needed, `[name]` is not, `...` takes the rest. */
export interface ArgumentSpec<T> {
  readonly syntax: string;
  readonly summary: string;
  /** Never set; carries the type of the value. */
  readonly value?: T;
}

type OptionSpecs = Readonly<Record<string, OptionSpec<unknown>>>;
type ArgumentSpecs = Readonly<Record<string, ArgumentSpec<unknown>>>;

type OptionValues<S extends OptionSpecs> = {
  readonly [K in keyof S]: S[K] extends OptionSpec<infer T> ? T : never;
};

type ArgumentValues<S extends ArgumentSpecs> = {
  readonly [K in keyof S]: S[K] extends ArgumentSpec<infer T> ? T : never;
};

/** The exit code a handler ends with; nothing for 0. */
type HandlerResult = Promise<number> | Promise<void>;

/** A handler bound to its values. */
type Task = (context: Context) => HandlerResult;

/** An option of container tools that has no meaning here, and what to use instead. */
export interface RefusedOption {
  /** In commander's syntax. */
  readonly flags: string;
  readonly instead: string;
}

/** A command as data. */
export interface CommandSpec<A extends ArgumentSpecs, O extends OptionSpecs> {
  readonly name: string;
  readonly aliases?: readonly string[];
  readonly summary: string;
  /** In the order of the command line. */
  readonly args: A;
  readonly options: O;
  /** Options after the first argument belong to the command that is run, not to us. @default false */
  readonly passThrough?: boolean;
  /** Not shown in help. @default false */
  readonly hidden?: boolean;
  /** Refused by name, and not shown in help. @default none */
  readonly refused?: readonly RefusedOption[];
  /** Takes every option as an argument. @default false */
  readonly anyOptions?: boolean;
  /** Help has no short option: `-h` means something else. @default false */
  readonly longHelpOnly?: boolean;
  /** What runs when only the name of the group is given. @default false */
  readonly isDefault?: boolean;
  /** `command`: where it hangs in commander's tree, for what looks at the tree itself. */
  readonly handler: (
    context: Context,
    args: ArgumentValues<A>,
    options: OptionValues<O>,
    command: Commander,
  ) => HandlerResult;
}

/** Runs a task with the connection its command line asked for. */
export type Runner = (connection: Connection, task: Task) => Promise<void>;

/** A command or group that can be hung into commander's tree. */
export interface Command {
  register(parent: Commander, runner: Runner): void;
}

/** Turns a {@link CommandSpec} into a {@link Command}. */
export function createCommand<const A extends ArgumentSpecs, const O extends OptionSpecs>(
  spec: CommandSpec<A, O>,
): Command {
  return {
    register(parent, runner) {
      const { hidden = false, isDefault = false } = spec;
      const command = parent.command(spec.name, { hidden, isDefault });
      if (spec.anyOptions) command.allowUnknownOption().helpOption(false);
      if (spec.longHelpOnly) command.helpOption('--help', 'display help for command');
      command
        .summary(spec.summary)
        .description(sentence(spec.summary))
        .aliases(spec.aliases ?? []);
      if (spec.passThrough) command.passThroughOptions();
      for (const { syntax, summary } of Object.values(spec.args)) {
        command.addArgument(new Argument(syntax, summary));
      }
      const names = addOptions(command, spec.options);
      const refused = addRefused(command, spec.refused ?? []);
      addConnectionOptions(command);
      command.action(async () => {
        const given = command.opts();
        const args = Object.keys(spec.args).map((key, at) => [key, command.processedArgs[at]]);
        const options = Object.entries(spec.options).map(([key, { initial }]) => [
          key,
          given[names.get(key) ?? key] ?? initial,
        ]);
        // The specs gave each value its type; commander forgets it.
        const argValues = Object.fromEntries(args) as ArgumentValues<A>;
        const optionValues = Object.fromEntries(options) as OptionValues<O>;
        const connection = connectionOf(command);
        await runner(connection, (context) => {
          refuseGiven(refused, given);
          refuseLonePrefix(connection);
          return spec.handler(context, argValues, optionValues, command);
        });
      });
    },
  };
}

/** A group of commands below one name, such as `images ls`. */
export function createGroup(group: {
  readonly name: string;
  readonly aliases?: readonly string[];
  readonly summary: string;
  readonly hidden?: boolean;
  readonly commands: readonly Command[];
}): Command {
  return {
    register(parent, runner) {
      const command = parent.command(group.name, { hidden: group.hidden ?? false });
      command
        .summary(group.summary)
        .description(sentence(group.summary))
        .aliases(group.aliases ?? []);
      for (const member of group.commands) member.register(command, runner);
    },
  };
}

/** Adds `--home`, `--url` and `--prefix`, in a help group of their own. */
export function addConnectionOptions(command: Commander): void {
  command.optionsGroup('Connection:');
  command.option('--home <directory>', 'home of the engine (CRYOBOX_HOME)');
  command.option('--url <url>', 'server instead of a local engine (CRYOBOX_URL, key in CRYOBOX_API_KEY)');
  command.option('--prefix <prefix>', 'path prefix on the server (CRYOBOX_PREFIX)');
}

/** A prefix means nothing to a home: what was meant for one tenant would be done for another. */
function refuseLonePrefix({ prefix, url }: Connection): void {
  if (prefix === undefined || url !== undefined) return;
  throw new CryoboxError('invalid_argument', `the prefix ${JSON.stringify(prefix)} needs a server`, {
    hint: 'Add --url (or CRYOBOX_URL), or leave --prefix and CRYOBOX_PREFIX out.',
  });
}

/** What the command line says, before or after the command's name, else the environment. */
function connectionOf(command: Commander): Connection {
  const given: Connection = { ...rootOf(command).opts(), ...command.opts() };
  const { CRYOBOX_HOME, CRYOBOX_URL, CRYOBOX_PREFIX, CRYOBOX_API_KEY } = process.env;
  const url = given.url ?? (CRYOBOX_URL || undefined);
  const prefix = given.prefix ?? (CRYOBOX_PREFIX || undefined);
  return {
    home: given.home ?? (CRYOBOX_HOME || undefined),
    url,
    prefix,
    apiKey: CRYOBOX_API_KEY || undefined,
  };
}

function rootOf(command: Commander): Commander {
  return command.parent ? rootOf(command.parent) : command;
}

/** Adds the options and returns the names commander gives their values. */
function addOptions(command: Commander, specs: OptionSpecs): ReadonlyMap<string, string> {
  const names = new Map<string, string>();
  for (const [key, spec] of Object.entries(specs)) {
    const option = new Option(spec.flags, spec.summary);
    if (spec.parse) {
      option.argParser((text: string, earlier: unknown) => spec.parse?.(text, earlier ?? spec.initial));
    }
    command.addOption(option);
    names.set(key, option.attributeName());
  }
  return names;
}

/** Adds options that are refused, and returns each with the name commander gives its value. */
function addRefused(
  command: Commander,
  refused: readonly RefusedOption[],
): ReadonlyMap<string, RefusedOption> {
  const names = new Map<string, RefusedOption>();
  for (const it of refused) {
    const option = new Option(it.flags).hideHelp();
    command.addOption(option);
    names.set(option.attributeName(), it);
  }
  return names;
}

function refuseGiven(
  refused: ReadonlyMap<string, RefusedOption>,
  given: Readonly<Record<string, unknown>>,
): void {
  for (const [name, { flags, instead }] of refused) {
    if (given[name] === undefined) continue;
    const [option] = /--[\w-]+/.exec(flags) ?? [flags];
    throw new CryoboxError('unsupported', `${option} has no meaning for a box`, { hint: instead });
  }
}

function sentence(summary: string): string {
  return `${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`;
}
