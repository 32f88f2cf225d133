import type { Fd } from './fd.ts';
import { bind, check, descriptorArgument, NR } from './libc.ts';

const LOOP_SET_CAPACITY = 0x4c07;
const call = bind(NR.ioctl, 'int', 'ulong', 'long');

/** Takes the size of the file below anew, after it has grown. Borrows `device`. @throws {KernelError} ENXIO: nothing is bound. @see loop(4), Linux 2.6.30 */
export function loopSetCapacity(device: Fd, object: string): void {
  check('LOOP_SET_CAPACITY', call(descriptorArgument(device), LOOP_SET_CAPACITY, 0), object);
}
