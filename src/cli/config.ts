import type { Command } from 'commander';
import type { DefineCommand, GlobalOptions } from './command.ts';
import { print } from './output.ts';

export const define: DefineCommand = program => {
  const config = program.command('config').summary('check and show the configuration');
  config.description(
    'The file is the one of --config, $SHIFTVOL_CONFIG, /etc/shiftvol/plugin.yaml or the packaged one, the first that there is.',
  );
  defineCheck(config);
  defineShow(config);
  defineSchema(config);
};

function defineCheck(config: Command): void {
  config
    .command('check')
    .summary('say whether the configuration can be used, and where not')
    .addHelpText('after', '\nBefore a restart of the agent.\n\nExample:\n  shiftvol config check --config new.yaml')
    .action(async (_options: unknown, command: Command) => {
      const options = command.optsWithGlobals<GlobalOptions>();
      const [{ loadConfig }, { configSecrets }, { statSync }] = await Promise.all([
        import('../config/load.ts'),
        import('../config/shown.ts'),
        import('node:fs'),
      ]);
      const loaded = loadConfig(options);
      const { file } = loaded;
      const mode = statSync(file).mode & 0o777;
      // Our own words, so as to be told where the secret is that all may read.
      const warnings =
        configSecrets(loaded).length > 0 && (mode & 0o044) !== 0
          ? [`others may read the passwords in it: chmod 600 ${file}`]
          : [];
      print(options, { ok: true, file, warnings }, r => [`${r.file}: fine`, ...r.warnings].join('\n'));
    });
}

function defineShow(config: Command): void {
  config
    .command('show')
    .summary('show what is in effect, without passwords')
    .addHelpText(
      'after',
      '\nThe file, environment variables and options put together, every key with its value.\n\nExample:\n  shiftvol config show --json | jq .bus.queue',
    )
    .action(async (_options: unknown, command: Command) => {
      const options = command.optsWithGlobals<GlobalOptions>();
      const [{ loadConfig }, { shownConfig }, { dump }] = await Promise.all([
        import('../config/load.ts'),
        import('../config/shown.ts'),
        import('js-yaml'),
      ]);
      const loaded = loadConfig(options);
      print(options, shownConfig(loaded), shown => `# ${loaded.file}\n${dump(shown, { lineWidth: 130 })}`.trimEnd());
    });
}

function defineSchema(config: Command): void {
  config
    .command('schema')
    .summary('print JSON Schema of plugin.yaml, for editors')
    .addHelpText(
      'after',
      '\nFor yaml-language-server, as the first line of the file:\n  # yaml-language-server: $schema=/usr/share/shiftvol/plugin.schema.json\n\nExample:\n  shiftvol config schema > plugin.schema.json',
    )
    .action(async () => {
      const { pluginJsonSchema } = await import('../config/json-schema.ts');
      process.stdout.write(`${JSON.stringify(pluginJsonSchema(), null, 2)}\n`);
    });
}
