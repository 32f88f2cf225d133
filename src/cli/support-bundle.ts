import type { DefineCommand, GlobalOptions } from './command.ts';

export const define: DefineCommand = program => {
  program
    .command('support-bundle')
    .summary('write what helps to find a fault, without secrets, into one file')
    .argument('[file]', 'a .tar.gz that does not exist (default: shiftvol-HOST-TIME.tar.gz here)')
    .addHelpText(
      'after',
      '\nVersions, the configuration without passwords, what doctor says, attachments, ids, mounts, loop devices, the service’s last log\nlines. Names of instances and volumes are in it: look at it before you give it away (tar xzOf FILE).\n\nExample:\n  shiftvol support-bundle /tmp/for-support.tar.gz',
    )
    .action(async (file: string | undefined, _options, command) => {
      const options: GlobalOptions = command.optsWithGlobals();
      const [{ bundle }, { tarOf }, { stopOnSignals }, { print }, { gzipSync }, { writeFileSync }, { hostname }] =
        await Promise.all([
          import('./bundle.ts'),
          import('./tar.ts'),
          import('./signals.ts'),
          import('./output.ts'),
          import('node:zlib'),
          import('node:fs'),
          import('node:os'),
        ]);
      using stop = stopOnSignals();
      const now = new Date();
      const stamp = now.toISOString().replace(/[-:]|\.\d+/g, '');
      const path = file ?? `shiftvol-${hostname()}-${stamp}.tar.gz`;
      const texts = await bundle(options, stop.signal);
      // Never over what is there, nor through a link that somebody has laid.
      writeFileSync(path, gzipSync(tarOf(texts, now)), { flag: 'wx', mode: 0o600 });
      print(options, { file: path, parts: [...texts.keys()] }, r => r.file);
    });
};
