/** The profile that runtimes give where a pod says RuntimeDefault: containers' own file, as the OCI runtime reads it. */
import { readFileSync } from 'node:fs';

/** Debian's golang-github-containers-common; the same rules as containerd's and CRI-O's. */
const FILE = '/usr/share/containers/seccomp.json';
type Condition = { readonly caps?: readonly string[] | null; readonly arches?: readonly string[] | null };
type Rule = {
  readonly names: readonly string[];
  readonly action: string;
  readonly args?: readonly object[] | null;
  readonly errnoRet?: number;
  readonly includes?: Condition;
  readonly excludes?: Condition;
};
type Profile = {
  readonly defaultAction: string;
  readonly defaultErrnoRet?: number;
  readonly syscalls: readonly Rule[];
};

/** For a process with these capabilities ("CAP_SYS_ADMIN") on this machine. */
export function runtimeDefault(
  capabilities: readonly string[],
  arch = process.arch === 'x64' ? 'amd64' : process.arch,
): object {
  const profile: Profile = JSON.parse(readFileSync(FILE, 'utf8'));
  const has = (wanted: readonly string[] | null | undefined) => (wanted ?? []).every(c => capabilities.includes(c));
  const applies = ({ includes, excludes }: Rule): boolean => {
    if (!has(includes?.caps)) return false;
    if (includes?.arches?.length && !includes.arches.includes(arch)) return false;
    if (excludes?.caps?.some(c => capabilities.includes(c))) return false;
    return !excludes?.arches?.includes(arch);
  };
  return {
    defaultAction: profile.defaultAction,
    ...(profile.defaultErrnoRet === undefined ? {} : { defaultErrnoRet: profile.defaultErrnoRet }),
    syscalls: profile.syscalls.filter(applies).map(({ names, action, args, errnoRet }) => ({
      names,
      action,
      ...(args?.length ? { args } : {}),
      ...(errnoRet === undefined ? {} : { errnoRet }),
    })),
  };
}
