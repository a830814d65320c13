import type { Box } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import { defaultUser, namesOf } from './envd/users.js';

/**
 * Adds the user that clients work as, by no other program than a shell and coreutils: most images have no tool for it.
 * As who it is, it has the first free number from 1000 on, and may become root where there is sudo.
 */
const addUser = `
set -e
name=$1
id=1000
while grep -q "^[^:]*:[^:]*:$id:" /etc/passwd /etc/group; do id=$((id + 1)); done
shell=/bin/sh
[ ! -x /bin/bash ] || shell=/bin/bash
echo "$name:x:$id:$id::/home/$name:$shell" >> /etc/passwd
echo "$name:x:$id:" >> /etc/group
mkdir -p "/home/$name"
[ ! -d /etc/skel ] || cp -r /etc/skel/. "/home/$name/"
chown -R "$id:$id" "/home/$name"
[ ! -d /etc/sudoers.d ] || echo "$name ALL=(ALL:ALL) NOPASSWD: ALL" > "/etc/sudoers.d/$name"
`;

/** Makes sure that a box has the user that clients work as. Throws `execution_failed` where none can be added. */
export async function ensureUser(box: Box, signal: AbortSignal): Promise<void> {
  if ((await namesOf(box.files)).user(defaultUser)) return;
  const command = ['/bin/sh', '-c', addUser, 'sh', defaultUser];
  const { exitCode, stderr } = await box.exec(command, { user: '0:0', cwd: '/', signal });
  if (exitCode === 0) return;
  throw new CryoboxError(
    'execution_failed',
    `cannot add the user ${defaultUser}: ${stderr.toString().trim()}`,
    {
      hint: 'Use an image that has this user, or a shell and coreutils.',
    },
  );
}
