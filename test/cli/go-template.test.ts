import { describe, expect, it } from 'vitest';
import { parseTemplate } from '../../src/cli/go-template.js';

const data = {
  id: 'box_1',
  name: 'web',
  labels: { team: 'x', env: 'prod' },
  state: { running: true, pid: 7 },
  env: ['A=1', 'B=2'],
  none: null,
  empty: [],
  size: 3,
  bytes: 5,
};

describe('templates', () => {
  it.each([
    ['{{.Name}}', 'web'],
    ['{{ .ID }}\\t{{.name}}', 'box_1\tweb'],
    ['{{.State.Running}} {{.State.Pid}}', 'true 7'],
    ['{{json .Labels}}', '{"team":"x","env":"prod"}'],
    ['{{.Labels | json}}', '{"team":"x","env":"prod"}'],
    ['{{index .Labels "team"}} {{index .Env 1}}', 'x B=2'],
    ['{{range .Env}}{{.}};{{end}}', 'A=1;B=2;'],
    ['{{range $k, $v := .Labels}}{{$k}}={{$v}} {{end}}', 'team=x env=prod '],
    ['{{range $i, $it := .Env}}{{$i}}{{$.Name}} {{end}}', '0web 1web '],
    ['{{range .Empty}}x{{else}}nothing{{end}}', 'nothing'],
    ['{{if .State.Running}}up{{else}}down{{end}}', 'up'],
    ['{{if eq .Name "db"}}a{{else if eq .Name "web"}}b{{else}}c{{end}}', 'b'],
    ['{{if and .State.Running (not .None)}}yes{{end}}', 'yes'],
    ['{{with .State}}{{.Pid}}{{end}}', '7'],
    ['{{join .Env ", "}} {{upper .Name}} {{len .Env}} {{len .Name}}', 'A=1, B=2 WEB 2 3'],
    ['{{printf "%s-%d %-5s|%q" .Name .Size .Name .ID}}', 'web-3 web  |"box_1"'],
    ['{{println .Name}}', 'web\n'],
    ['a {{- /* said to nobody */ -}} b', 'ab'],
    ['{{.Env}} {{.Labels}} {{.None}}', '[A=1 B=2] map[team:x env:prod] '],
    ['{{.}}', 'map[id:box_1'],
    ['{{range split "a b" " "}}<{{.}}>{{end}}', '<a><b>'],
  ])('%s gives %s', (template, expected) => {
    expect(parseTemplate(template)(data).slice(0, expected.length)).toBe(expected);
    if (template !== '{{.}}') expect(parseTemplate(template)(data)).toBe(expected);
  });

  it.each([
    ['{{.Name', '"{{" has no "}}"'],
    ['{{if .Name}}x', 'a block has no {{end}}'],
    ['{{end}}', '{{end}} has no beginning'],
    ['{{nonsense .Name}}', 'there is no function nonsense'],
    ['{{"a}}', 'it cannot be read'],
    ['{{(.Name}}', '"(" has no ")"'],
    ['{{}}', 'an action is empty'],
    [`${'{{if .A}}'.repeat(100)}`, 'nested more than 64 deep'],
    [`{{${'('.repeat(100)}`, '"{{" has no "}}"'],
  ])('refuses %s', (template, message) => {
    expect(() => parseTemplate(template)).toThrow(message);
  });

  it.each([
    ['{{.Nmae}}', 'there is no field Nmae; there are id, name'],
    ['{{.Name.First}}', 'web has no fields'],
    ['{{$x}}', 'there is no variable $x'],
    ['{{.constructor}}', 'there is no field constructor'],
  ])('says what of %s is not there', (template, message) => {
    expect(() => parseTemplate(template)(data)).toThrow(message);
  });
});
