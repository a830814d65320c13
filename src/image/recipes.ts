import { type BuildOptions, type ImageRecipe, imageRecipes } from '../api/index.js';
import { CryoboxError } from '../errors.js';
import type { DebianRoot } from './debian-root.js';

/** What an image of a recipe holds beside Debian's base system. */
interface Recipe {
  /** Where its packages are had when no other release is asked for. */
  readonly suite: string;
  readonly packages: readonly string[];
  /** Environment of every command. */
  readonly env: Readonly<Record<string, string>>;
}

/** What people and their agents reach for in any language. */
const tools = ['bash', 'ca-certificates', 'curl', 'git', 'less', 'procps', 'sudo', 'xz-utils'];
/** Compiled parts of packages and of programs. */
const compiler = ['gcc', 'libc6-dev', 'make'];

const recipes: Readonly<Record<ImageRecipe, Recipe>> = {
  python: {
    suite: 'bookworm',
    packages: [...tools, 'python3', 'python3-pip', 'python3-venv'],
    // A box is of one purpose: pip installs beside Debian's packages, where it would else refuse (PEP 668).
    env: { PIP_BREAK_SYSTEM_PACKAGES: '1', PIP_ROOT_USER_ACTION: 'ignore', PIP_NO_CACHE_DIR: '1' },
  },
  node: { suite: 'trixie', packages: [...tools, 'nodejs', 'npm'], env: {} },
  go: { suite: 'trixie', packages: [...tools, ...compiler, 'golang-go'], env: {} },
  desktop: {
    suite: 'bookworm',
    packages: [
      ...tools,
      'chromium',
      'dbus-x11',
      'fonts-dejavu-core',
      'imagemagick',
      'openbox',
      'python3',
      'scrot',
      'x11vnc',
      'xdotool',
      'xterm',
      'xvfb',
    ],
    env: { DISPLAY: ':0' },
  },
};

/** The user of every recipe's image: no root, and may become it without a password. */
const user = { name: 'user', id: 1000 } as const;

/** What is done in the root directory `$1` of a recipe's image once its packages are there. */
const recipeHooks: readonly string[] = [
  `chroot "$1" useradd --create-home --shell /bin/bash --uid ${user.id} --user-group ${user.name}`,
  `printf '%s ALL=(ALL:ALL) NOPASSWD:ALL\\n' ${user.name} > "$1/etc/sudoers.d/${user.name}"`,
  `chmod 0440 "$1/etc/sudoers.d/${user.name}"`,
];

/** The recipe of a name. Throws `invalid_argument` when there is none. */
function recipeOf(name: string): Recipe {
  const known = imageRecipes.find((each) => each === name);
  if (known) return recipes[known];
  throw new CryoboxError('invalid_argument', `there is no recipe ${JSON.stringify(name.slice(0, 100))}`, {
    hint: `Recipes are: ${imageRecipes.join(', ')}.`,
  });
}

/** Release, packages, finish and environment of an image that is asked for. Throws `invalid_argument` without a release. */
export function debianContents({
  recipe,
  fromDebian,
  packages = [],
}: Pick<BuildOptions, 'recipe' | 'fromDebian' | 'packages'>): Pick<
  DebianRoot,
  'suite' | 'packages' | 'hooks'
> &
  Pick<Recipe, 'env'> {
  if (recipe !== undefined) {
    const { suite, env, ...of } = recipeOf(recipe);
    const all = [...new Set([...of.packages, ...packages])];
    return { suite: fromDebian ?? suite, packages: all, hooks: recipeHooks, env };
  }
  if (fromDebian !== undefined) return { suite: fromDebian, packages, env: {} };
  throw new CryoboxError('invalid_argument', 'an image is built from a Debian release or by a recipe', {
    hint: `Give fromDebian, such as "bookworm", or a recipe: ${imageRecipes.join(', ')}.`,
  });
}
