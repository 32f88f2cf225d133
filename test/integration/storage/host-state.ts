import { readFileSync } from 'node:fs';
import { listTree, run } from '../../rig/pool.ts';

/** All that an operation could leave behind: files below a directory, mounts and loop devices that have to do with it. */
export function hostState(directory: string) {
  const about = (text: string) => text.split('\n').filter(line => line.includes(`${directory}/`));
  return {
    files: listTree(directory).filter(file => file !== 'templates/.lock' && file !== 'templates'),
    mounts: about(readFileSync('/proc/self/mountinfo', 'utf8')),
    loops: about(run('losetup', '--all', '--noheadings', '-O', 'BACK-FILE')),
  };
}
