/** On and off, still and running, and what is told about it. */
import type { PowerState } from '../container/machines.ts';
import { isError, ShiftvolError } from '../errors.ts';
import { refOf } from './instances.ts';
import type { NovaInstance } from './model.ts';
import type { Call, Nova } from './ports.ts';
import { mountRoot } from './roots.ts';
import { attachAll } from './volumes.ts';
import type { Args } from './wire.ts';

/** What Nova shows of a console; nova-api cuts it further. */
const CONSOLE_BYTES = 102_400;

/** By the contract with Nova's driver. */
const STATES = {
  running: 'running',
  paused: 'paused',
  stopped: 'shutdown',
  crashed: 'crashed',
} as const satisfies Record<PowerState, string>;

/** @throws SV_INSTANCE_NOT_FOUND, which Nova counts on */
export async function getInfo(nova: Nova, { instance }: Args<'get_info'>, { signal }: Call) {
  const power = await nova.machines.power(refOf(instance), signal);
  if (power !== undefined) return { state: STATES[power] };
  throw new ShiftvolError(
    'SV_INSTANCE_NOT_FOUND',
    `Instance ${instance.uuid} could not be found on host "${nova.host}"`,
  );
}

/** What a reboot of the host or a failure took is mounted before it starts, so that it starts with it. */
export async function powerOn(nova: Nova, args: WithVolumes, call: Call): Promise<void> {
  const { instance, block_device_info: devices } = args;
  if (devices.boot) await mountRoot(nova, instance, { kind: 'volume', volume: devices.boot }, call);
  await attachAll(nova, instance, devices.volumes, call);
  await nova.machines.start(refOf(instance), call.signal);
  await forgetMove(nova, instance, call);
}
type WithVolumes = Pick<Args<'power_on'>, 'instance' | 'block_device_info'>;

/** A move to another host that was cut off: Nova has it run here, and nothing may take it for gone. One within this host has yet to be confirmed. */
async function forgetMove(nova: Nova, instance: NovaInstance, { signal }: Call): Promise<void> {
  const note = await nova.notes.get(refOf(instance), signal);
  if (note?.leaving !== undefined && note.leaving !== nova.host) await nova.notes.set(refOf(instance), {}, signal);
}

export async function powerOff(nova: Nova, args: Args<'power_off'>, call: Call): Promise<void> {
  await stop(nova, args, call);
}

/** Nova's `timeout` is in seconds; with 0 it is killed at once. */
export async function stop(
  nova: Nova,
  { instance, timeout }: Pick<Args<'power_off'>, 'instance' | 'timeout'>,
  { signal }: Call,
): Promise<void> {
  const timeoutMs = timeout === null || timeout === undefined ? nova.config.stopTimeoutMs : timeout * 1000;
  await nova.machines.stop(refOf(instance), { timeoutMs, force: timeoutMs === 0 }, signal);
}

/** A hard reboot is also the way out after something went wrong: what is to be mounted is looked after while it is down. */
export async function reboot(nova: Nova, args: Args<'reboot'>, call: Call): Promise<void> {
  await stop(nova, { instance: args.instance, timeout: args.reboot_type === 'HARD' ? 0 : null }, call);
  await powerOn(nova, args, call);
}

export async function freeze(nova: Nova, { instance }: Args<'pause'>, { signal }: Call): Promise<void> {
  await nova.machines.freeze(refOf(instance), signal);
}

export async function unfreeze(nova: Nova, { instance }: Args<'unpause'>, { signal }: Call): Promise<void> {
  await nova.machines.unfreeze(refOf(instance), signal);
}

/** Suspended it was frozen; after a reboot of the host it is stopped. */
export async function resume(nova: Nova, args: Args<'resume'>, call: Call): Promise<void> {
  const power = await nova.machines.power(refOf(args.instance), call.signal);
  if (power === 'paused') await freezeEnds(nova, args, call);
  else await powerOn(nova, args, call);
}

async function freezeEnds(nova: Nova, { instance }: Args<'resume'>, { signal }: Call): Promise<void> {
  await nova.machines.unfreeze(refOf(instance), signal);
}

export async function getConsoleOutput(nova: Nova, { instance }: Args<'get_console_output'>, { signal }: Call) {
  return await nova.machines.console(refOf(instance), { maxBytes: CONSOLE_BYTES }, signal);
}

/** A flat list of names and numbers, as `openstack server show --diagnostics` prints it. */
export async function getDiagnostics(nova: Nova, { instance }: Args<'get_diagnostics'>, { signal }: Call) {
  const { networks, state, ...numbers } = await nova.machines.diagnostics(refOf(instance), signal);
  return {
    state: STATES[state],
    cpu_time_ns: numbers.cpuNs,
    memory_bytes: numbers.memoryBytes,
    memory_peak_bytes: numbers.memoryPeakBytes,
    pids: numbers.pids,
    ...(numbers.uptimeS === undefined ? {} : { uptime_s: numbers.uptimeS }),
    ...Object.fromEntries(
      networks.flatMap(({ name, rxBytes, txBytes, rxPackets, txPackets }) => [
        [`${name}_rx_bytes`, rxBytes],
        [`${name}_tx_bytes`, txBytes],
        [`${name}_rx_packets`, rxPackets],
        [`${name}_tx_packets`, txPackets],
      ]),
    ),
  };
}

export async function isHere(nova: Nova, { instance }: Args<'instance_on_disk'>, { signal }: Call): Promise<boolean> {
  try {
    return (await nova.machines.power(refOf(instance), signal)) !== undefined;
  } catch (error) {
    if (isError(error, 'SV_INSTANCE_NOT_FOUND')) return false;
    throw error;
  }
}
