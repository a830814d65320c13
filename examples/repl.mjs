// A REPL: one Python process keeps its variables over many calls.
// Run it: node examples/repl.mjs
import { Cryobox } from 'cryobox';

// Reads a line of JSON, runs its code where the earlier ones ran, and answers with a line of JSON.
const driver = `
import contextlib, io, json, sys, traceback
names = {}
for line in sys.stdin:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            code = json.loads(line)
            try: value = eval(compile(code, "cell", "eval"), names)
            except SyntaxError: value = exec(compile(code, "cell", "exec"), names)
            if value is not None: print(repr(value))
        except BaseException: traceback.print_exc(limit=0)
    print(json.dumps(out.getvalue()), flush=True)
`;

const runtime = await Cryobox.local();
const box = await runtime.create({ image: 'debian-python', network: { outbound: 'disabled' } });
try {
  const python = await box.startExec(['python3', '-c', driver], { stdin: true });
  const answers = python.stdout.lines();

  async function run(code) {
    await python.stdin.write(`${JSON.stringify(code)}\n`);
    const { value, done } = await answers.next();
    if (done) throw new Error('Python has ended');
    return JSON.parse(value);
  }

  for (const code of ['x = 6', 'def twice(n):\n    return n * 2', 'twice(x) + 30', 'x / 0', 'print(x)']) {
    console.log(`>>> ${code.replaceAll('\n', '\n... ')}`);
    process.stdout.write(await run(code));
  }
  await python.stdin.end();
  console.log('ended with', (await python.wait()).exitCode);
} finally {
  await box.remove({ force: true });
  await runtime.close();
}
