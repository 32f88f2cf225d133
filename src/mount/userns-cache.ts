import { ShiftvolError } from '../errors.ts';
import { isErrno } from '../kernel/errno.ts';
import type { Owned, UsernsFd } from '../kernel/fd.ts';
import { createUserNamespace } from '../kernel/userns.ts';

/** One descriptor each. An instance's volumes share a map, so that what was used last is what is used next. */
const KEPT = 64;

/** User namespaces by the text of their maps: 0.1 ms saved where the map was used before. */
export class UsernsCache implements Disposable {
  readonly #kept = new Map<string, Owned<UsernsFd>>();

  /**
   * Lent until the next call: use it at once, before any `await`.
   * @throws SV_HOST: the kernel gives no more user namespaces
   */
  get(maps: { readonly uid: string; readonly gid: string }): UsernsFd {
    const key = `${maps.uid}\n${maps.gid}`;
    const namespace = this.#kept.get(key) ?? create(maps);
    this.#kept.delete(key);
    this.#kept.set(key, namespace); // the newest is the last
    for (const [oldest, dropped] of this.#kept) {
      if (this.#kept.size <= KEPT) break;
      this.#kept.delete(oldest);
      dropped[Symbol.dispose]();
    }
    return namespace.fd;
  }

  [Symbol.dispose](): void {
    for (const namespace of this.#kept.values()) namespace[Symbol.dispose]();
    this.#kept.clear();
  }
}

function create(maps: { readonly uid: string; readonly gid: string }): Owned<UsernsFd> {
  try {
    return createUserNamespace(maps);
  } catch (error) {
    if (isErrno(error, 'ENOSPC', 'EUSERS'))
      throw new ShiftvolError(
        'SV_HOST',
        'Cannot make a user namespace for an idmap: the limit of this host is reached',
        {
          remedy: 'raise the sysctl user.max_user_namespaces',
          cause: error,
        },
      );
    if (isErrno(error, 'EPERM') && error.call === 'clone')
      throw new ShiftvolError('SV_HOST', 'Cannot make a user namespace for an idmap: it is forbidden to this process', {
        remedy: 'run it outside of a chroot and of a seccomp filter that forbids user namespaces',
        cause: error,
      });
    throw error;
  }
}
