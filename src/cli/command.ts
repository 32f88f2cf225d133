import type { Command } from 'commander';

/**
 * What a command file exports: it defines one command (name, summary, options, examples) on the program. Definitions load nothing
 * heavy; the action imports what it needs, since start-up is felt.
 */
export type DefineCommand = (program: Command) => void;

/** Options that every command has. Read with `command.optsWithGlobals()`. */
export type GlobalOptions = {
  readonly json?: boolean;
  readonly verbose?: boolean;
  readonly config?: string;
  readonly stateDir?: string;
  readonly runDir?: string;
};
