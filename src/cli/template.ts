import { Argument, type Command, Option } from 'commander';
import type { ImportRequest, ImportResult } from '../storage/import/request.ts';
import type { TemplateWithUse } from '../storage/templates.ts';
import type { DefineCommand, GlobalOptions } from './command.ts';
import { idBaseOption } from './options.ts';
import { bytes, print, progress, table } from './output.ts';
import { planTable } from './plan-table.ts';
import { stopOnSignals } from './signals.ts';

type Changing = GlobalOptions & { readonly dryRun?: boolean };

export const define: DefineCommand = program => {
  const template = program.command('template').summary('import, list, check and remove templates');
  template.description(
    'A template is a clean, read-only file system image from which attach and spawn take snapshots.\nIt lies in the pool: see "shiftvol pool --help".',
  );
  defineImport(template);
  defineList(template);
  defineShow(template);
  defineVerify(template);
  defineRemove(template);
};

function defineImport(template: Command): void {
  template
    .command('import')
    .summary('make a template from a directory, archive, image, device, URL, image of Glance or attachment')
    .argument('<name>', '1 to 64 of a-z, 0-9, ".", "_" and "-"')
    .requiredOption(
      '--from <source>',
      'directory, tar (also .gz .xz .zst .bz2), raw or qcow2 image, block device, http(s) URL, glance:IMAGE, attachment:ID[@SNAPSHOT]',
    )
    .addOption(
      new Option('--format <format>', 'what a file is').choices(['auto', 'tar', 'raw', 'qcow2']).default('auto'),
    )
    .addOption(
      new Option('--fs <type>', 'file system to make, for a directory or tar (default: ext4)').choices([
        'ext4',
        'xfs',
        'btrfs',
      ]),
    )
    .option('--size <size>', 'of that file system, as 4G (default: by its contents, with room to spare)')
    .addOption(baseOption())
    .option('--sha256 <hex>', 'what the source file must have')
    .option('--dry-run', 'look at the source, print what would be made, and make nothing')
    .addHelpText(
      'after',
      '\nOwners, modes, ACLs, extended attributes and capabilities are kept; device nodes and sockets are left out and counted.\n' +
        'With --id-base 100000 a file of uid 1000 has 101000 on disk, and 1000 again inside an instance.\n' +
        '\nExamples:\n  shiftvol template import web --from /srv/web-root\n  shiftvol template import web --from rootfs.tar.xz --fs xfs --id-base 100000\n' +
        '  shiftvol template import web --from https://example.org/web.qcow2 --sha256 9f86d0...\n' +
        '  OS_CLOUD=mycloud shiftvol template import web --from glance:debian-12\n' +
        '  shiftvol template import web-2 --from attachment:c1:/mnt/data',
    )
    .action(async (name: string, _options: unknown, command: Command) => {
      const options = command.optsWithGlobals<ImportOptions>();
      const { openAttachmentSource } = await import('./attachment-source.ts');
      await using saved = await openAttachmentSource(options, await requestOf(name, options));
      const { request } = saved;
      const paths = await poolPaths(options);
      const { importTemplate, planImport } = await import('../storage/import/import.ts');
      const { openGlanceSource } = await import('./glance-source.ts');
      using stop = stopOnSignals();
      using opened = await openGlanceSource(options, request, stop.signal);
      const { remote } = opened;
      if (options.dryRun === true) {
        const plan = planImport(paths, request, remote);
        const { layout } = await import('../storage/layout.ts');
        const { templateImport } = await import('./storage-plans.ts');
        const steps = templateImport(layout(paths.poolDir), request, plan.source);
        print(options, { dryRun: true, ...request, ...plan, steps }, p => planTable(p.steps));
        return;
      }
      const { ensurePool } = await import('../storage/pool.ts');
      await ensurePool(paths, stop.signal);
      const result = await importTemplate(paths, request, { signal: stop.signal, onProgress: stages(options), remote });
      print(options, result, importText);
    });
}

type ImportOptions = Changing & {
  readonly from: string;
  readonly format: NonNullable<ImportRequest['format']>;
  readonly fs?: NonNullable<ImportRequest['fsType']>;
  readonly size?: string;
  readonly idBase?: number;
  readonly sha256?: string;
};

async function requestOf(name: string, options: ImportOptions): Promise<ImportRequest> {
  const { parseSize } = await import('../storage/size.ts');
  return {
    name,
    from: options.from,
    format: options.format,
    ...(options.fs !== undefined && { fsType: options.fs }),
    ...(options.size !== undefined && { sizeBytes: parseSize(options.size, '--size') }),
    ...(options.idBase !== undefined && { idBase: options.idBase }),
    ...(options.sha256 !== undefined && { sha256: options.sha256 }),
  };
}

function importText({ template, dropped, deviceNodes, immutable }: ImportResult): string {
  const notes = [
    dropped.devices > 0 && `${dropped.devices} device nodes were left out`,
    dropped.sockets > 0 && `${dropped.sockets} sockets were left out`,
    deviceNodes > 0 && `it has ${deviceNodes} device nodes, which are dead on every mount of it`,
    !immutable && 'the file system of the pool has no immutable flag: only its mode protects it',
  ].filter(note => note !== false);
  return [templateText({ ...template, snapshots: 0 }), ...notes.map(note => `note: ${note}`)].join('\n');
}

function defineList(template: Command): void {
  template
    .command('list')
    .summary('list templates')
    .addHelpText('after', '\nExample:\n  shiftvol template list --json | jq -r ".[].name"')
    .action(async (_options: unknown, command: Command) => {
      const options = command.optsWithGlobals<GlobalOptions>();
      const paths = await mountedPool(options);
      const { listTemplates } = await import('../storage/templates.ts');
      print(options, listTemplates(paths), all =>
        all.length === 0
          ? 'no templates'
          : table(
              ['NAME', 'FS', 'SIZE', 'ID BASE', 'EXTENTS', 'SNAPSHOTS', 'CREATED'],
              all.map(t => [
                t.name,
                t.fsType,
                bytes(t.sizeBytes),
                `${t.idBase}`,
                `${t.extents}`,
                `${t.snapshots}`,
                t.createdAt,
              ]),
            ),
      );
    });
}

function defineShow(template: Command): void {
  template
    .command('show')
    .summary('show all that is known of a template')
    .addArgument(nameArgument())
    .addHelpText('after', '\nExample:\n  shiftvol template show web --json')
    .action(async (name: string, _options: unknown, command: Command) => {
      const options = command.optsWithGlobals<GlobalOptions>();
      const paths = await mountedPool(options);
      const { showTemplate } = await import('../storage/templates.ts');
      print(options, showTemplate(paths, name), templateText);
    });
}

function defineVerify(template: Command): void {
  template
    .command('verify')
    .summary('read a template again: its sha256, and whether it could be written')
    .addArgument(nameArgument())
    .addHelpText('after', '\nExample:\n  shiftvol template verify web')
    .action(async (name: string, _options: unknown, command: Command) => {
      const options = command.optsWithGlobals<GlobalOptions>();
      const paths = await mountedPool(options);
      const { verifyTemplate } = await import('../storage/templates.ts');
      using stop = stopOnSignals();
      const verified = await verifyTemplate(paths, name, {
        signal: stop.signal,
        onProgress: progress(options, 'verify'),
      });
      print(
        options,
        verified,
        v => `${v.name}: as it was imported, read-only${v.immutable ? ' and immutable' : ''}, sha256 ${v.sha256}`,
      );
    });
}

function defineRemove(template: Command): void {
  template
    .command('remove')
    .summary('remove a template that has no snapshots')
    .addArgument(nameArgument())
    .option('--dry-run', 'say whether it would be removed, and do nothing')
    .addHelpText('after', '\nExample:\n  shiftvol template remove web')
    .action(async (name: string, _options: unknown, command: Command) => {
      const options = command.optsWithGlobals<Changing>();
      const paths = await mountedPool(options);
      const { planRemoval, removeTemplate } = await import('../storage/templates.ts');
      const { path } = planRemoval(paths, name);
      if (options.dryRun === true) {
        const { layout } = await import('../storage/layout.ts');
        const { templateRemoval } = await import('./storage-plans.ts');
        const steps = templateRemoval(layout(paths.poolDir), name);
        print(options, { name, path, removed: false, dryRun: true, steps }, p => planTable(p.steps));
        return;
      }
      await removeTemplate(paths, name);
      print(options, { name, path, removed: true, dryRun: false }, r => `removed template ${r.name} (${r.path})`);
    });
}

function templateText(t: TemplateWithUse): string {
  const rows: readonly (readonly [string, string])[] = [
    ['name', t.name],
    ['file system', `${t.fsType}, ${bytes(t.sizeBytes)}, uuid ${t.uuid}${t.label === '' ? '' : `, label ${t.label}`}`],
    ['id base', `${t.idBase}`],
    ['extents', `${t.extents}`],
    ['sha256', t.sha256],
    ['snapshots', `${t.snapshots}`],
    ['created', t.createdAt],
    ['path', t.path],
  ];
  return rows.map(([key, value]) => `${key.padEnd(12)} ${value}`).join('\n');
}

/** A bar for each stage, begun when the stage begins. */
function stages(options: GlobalOptions): (stage: string, done: number, total: number) => void {
  const bars = new Map<string, ReturnType<typeof progress>>();
  return (stage, done, total) => {
    const bar = bars.get(stage) ?? progress(options, stage);
    bars.set(stage, bar);
    bar(done, total);
  };
}

function baseOption(): Option {
  const option = idBaseOption();
  option.description =
    'first id on disk: 0, or 65536 and above (default: 0; of an image, the owner of its root directory)';
  return option;
}

const nameArgument = (): Argument => new Argument('<name>', 'the template’s name');

async function poolPaths(options: GlobalOptions) {
  const { loadConfig } = await import('../config/load.ts');
  const { stateDir, poolDir } = loadConfig(options);
  return { stateDir, poolDir };
}

async function mountedPool(options: GlobalOptions) {
  const paths = await poolPaths(options);
  const { ensurePool } = await import('../storage/pool.ts');
  await ensurePool(paths);
  return paths;
}
