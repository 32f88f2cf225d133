import { Argument, type Command } from 'commander';
import type { Saved, SnapshotPreview } from '../engine/snapshots.ts';
import type { SavedImage, SavedImageWithUse } from '../engine/volume-ports.ts';
import type { ApiRequest } from '../http/api.ts';
import type { DefineCommand, GlobalOptions } from './command.ts';
import { projectOption } from './options.ts';
import { bytes, print, table } from './output.ts';
import { planTable } from './plan-table.ts';

type Options = GlobalOptions & { readonly project?: string };
type Changing = Options & { readonly dryRun?: boolean };

export const define: DefineCommand = program => {
  const snapshot = program.command('snapshot').summary('save what an attachment holds, and bring it back');
  snapshot.description(
    'A snapshot is a copy of an attachment at one moment. It shares its blocks with it, and stays until it is removed,\nalso when the attachment is gone. For volumes of the pool: those of Cinder are saved in Cinder.',
  );
  defineCreate(snapshot);
  defineList(snapshot);
  defineRestore(snapshot);
  defineRemove(snapshot);
};

function defineCreate(snapshot: Command): void {
  snapshot
    .command('create')
    .summary('save what an attachment holds now, while it is in use')
    .addArgument(placeArgument())
    .addArgument(nameArgument())
    .option(
      '--deadline <ms>',
      'how long writing may stand still at most, in milliseconds (default: as configured, 5000)',
    )
    .addOption(projectOption())
    .option('--dry-run', 'print what would be done, and do nothing')
    .addHelpText(
      'after',
      '\nThe file system is frozen for the moment of the copy: all that was synced before is in it. Whatever happens to shiftvol, it\nis not frozen for longer than the deadline.\n\nExample:\n  shiftvol snapshot create c1:/mnt/data before-upgrade',
    )
    .action(async (text: string, name: string, _options: unknown, command: Command) => {
      const options = command.optsWithGlobals<Changing & { readonly deadline?: string }>();
      const deadlineMs = options.deadline === undefined ? undefined : await parseMs(options.deadline);
      const { dryRun = false } = options;
      const place = await placeOf(text, options);
      const answer = await ask(options, { command: 'snapshot.create', ...place, name, deadlineMs, dryRun });
      print(options, answer as Saved | SnapshotPreview, changedText(savedText));
    });
}

function defineList(snapshot: Command): void {
  snapshot
    .command('list')
    .summary('list saved snapshots')
    .argument('[attachment]', 'only those of INSTANCE:TARGET, or of an attachment’s id')
    .addOption(projectOption())
    .addHelpText(
      'after',
      '\nEXCLUSIVE is what removing a snapshot gives back; the rest is shared with others.\n\nExample:\n  shiftvol snapshot list --json | jq -r ".[].name"',
    )
    .action(async (text: string | undefined, _options: unknown, command: Command) => {
      const options = command.optsWithGlobals<Options>();
      const place = text === undefined ? undefined : await placeOf(text, options);
      const answer = await ask(options, { command: 'snapshot.list', place });
      print(options, answer as readonly SavedImageWithUse[], listText);
    });
}

function defineRestore(snapshot: Command): void {
  snapshot
    .command('restore')
    .summary('bring an attachment back to what a snapshot holds')
    .addArgument(placeArgument())
    .addArgument(nameArgument())
    .addOption(projectOption())
    .option('--dry-run', 'print what would be done, and do nothing')
    .addHelpText(
      'after',
      '\nWhat was written since is gone. The attachment has to be detached, or its instance stopped.\n\nExample:\n  shiftvol snapshot restore c1:/mnt/data before-upgrade',
    )
    .action(async (text: string, name: string, _options: unknown, command: Command) => {
      const options = command.optsWithGlobals<Changing>();
      const { dryRun = false } = options;
      const place = await placeOf(text, options);
      const answer = await ask(options, { command: 'snapshot.restore', ...place, name, dryRun });
      print(
        options,
        answer as SavedImage | SnapshotPreview,
        changedText(s => `restored attachment ${s.attachment} to snapshot ${s.name}`),
      );
    });
}

function defineRemove(snapshot: Command): void {
  snapshot
    .command('remove')
    .summary('remove a saved snapshot')
    .addArgument(placeArgument())
    .addArgument(nameArgument())
    .addOption(projectOption())
    .option('--dry-run', 'print what would be done, and do nothing')
    .addHelpText('after', '\nExample:\n  shiftvol snapshot remove c1:/mnt/data before-upgrade')
    .action(async (text: string, name: string, _options: unknown, command: Command) => {
      const options = command.optsWithGlobals<Changing>();
      const { dryRun = false } = options;
      const place = await placeOf(text, options);
      const answer = await ask(options, { command: 'snapshot.remove', ...place, name, dryRun });
      print(
        options,
        answer as SavedImage | SnapshotPreview,
        changedText(s => `removed snapshot ${s.name} of attachment ${s.attachment}`),
      );
    });
}

function changedText<T extends object>(text: (value: T) => string): (answer: T | SnapshotPreview) => string {
  return answer => ('dryRun' in answer ? planTable(answer.steps) : text(answer));
}

function savedText({ name, attachment, path, sizeBytes, frozenMs }: Saved): string {
  const still = frozenMs > 0 ? `, writing stood still for ${frozenMs.toFixed(1)} ms` : '';
  return `saved ${name} of attachment ${attachment}: ${path}, ${bytes(sizeBytes)}${still}`;
}

function listText(rows: readonly SavedImageWithUse[]): string {
  if (rows.length === 0) return 'no snapshots';
  return table(
    ['ATTACHMENT', 'NAME', 'SIZE', 'EXCLUSIVE', 'SHARED', 'CREATED'],
    rows.map(s => [
      s.attachment,
      s.name,
      bytes(s.sizeBytes),
      bytes(s.exclusiveBytes),
      bytes(s.sharedBytes),
      s.createdAt,
    ]),
  );
}

const placeArgument = (): Argument => new Argument('<attachment>', 'INSTANCE:TARGET, or an attachment’s id');
const nameArgument = (): Argument => new Argument('<name>', '1 to 64 of a-z, 0-9, ".", "_" and "-"');

async function ask(options: Options, request: ApiRequest): Promise<unknown> {
  const { callEngine } = await import('./engine-client.ts');
  return await callEngine(options, request);
}

async function placeOf(text: string, { project }: Options) {
  const { parsePlace } = await import('./volume-argument.ts');
  const { instance, target } = parsePlace(text);
  return { instance: { ref: instance, project }, target };
}

async function parseMs(text: string): Promise<number> {
  const found = /^[1-9]\d{0,5}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isNaN(found)) return found;
  const { ShiftvolError } = await import('../errors.ts');
  throw new ShiftvolError('SV_USAGE', `Cannot read --deadline ${JSON.stringify(text)}: accepted is 1 to 999999`, {
    field: '--deadline',
  });
}
