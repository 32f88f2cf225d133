import { Argument } from 'commander';
import type { DefineCommand } from './command.ts';

const SHELLS = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof SHELLS)[number];

export const define: DefineCommand = program => {
  program
    .command('completion')
    .summary('print what makes a shell complete this command, with the names that there are')
    .addArgument(new Argument('<shell>', 'which').choices(SHELLS))
    .addHelpText(
      'after',
      '\nThe Debian package installs it.\n\nExamples:\n  shiftvol completion bash > /etc/bash_completion.d/shiftvol\n  shiftvol completion zsh > /usr/local/share/zsh/site-functions/_shiftvol\n  shiftvol completion fish > /etc/fish/completions/shiftvol.fish',
    )
    .action((shell: Shell) => {
      process.stdout.write(SCRIPTS[shell]);
    });
};

/** bash breaks words at colons, so that of INSTANCE:TARGET only what follows the last one may be given back. */
const BASH = `# bash completion of shiftvol
_shiftvol() {
  local words=("\${COMP_LINE:0:COMP_POINT}") line word files= cur
  # The words as the person wrote them, not broken at ":" and "=".
  read -ra words <<< "\${COMP_LINE:0:COMP_POINT}"
  [[ "\${COMP_LINE:0:COMP_POINT}" == *[[:space:]] ]] && words+=("")
  cur="\${words[-1]}"
  COMPREPLY=()
  while IFS= read -r line; do
    if [[ $line == :files ]]; then files=1; continue; fi
    COMPREPLY+=("\${line%%$'\\t'*}")
  done < <("\${words[0]}" __complete "\${words[@]:1}" 2>/dev/null)
  if [[ -n $files ]]; then
    compopt -o filenames 2>/dev/null
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$cur")
  fi
  local broken="\${cur%"\${cur##*[:=]}"}"
  if [[ -n $broken ]]; then
    local i
    for i in "\${!COMPREPLY[@]}"; do COMPREPLY[i]="\${COMPREPLY[i]#"$broken"}"; done
  fi
}
complete -F _shiftvol shiftvol
`;

const ZSH = `#compdef shiftvol
_shiftvol() {
  local -a found described
  local line files=
  while IFS= read -r line; do
    if [[ $line == :files ]]; then files=1; continue; fi
    found+=("\${line%%$'\\t'*}")
    if [[ $line == *$'\\t'* ]]; then described+=("\${line%%$'\\t'*}  -- \${line#*$'\\t'}"); else described+=("$line"); fi
  done < <("\${words[1]}" __complete "\${(@)words[2,CURRENT]}" 2>/dev/null)
  (( \${#found} )) && compadd -l -d described -a found
  [[ -n $files ]] && _files
  return 0
}
if [[ $funcstack[1] == _shiftvol ]]; then _shiftvol "$@"; else compdef _shiftvol shiftvol; fi
`;

const FISH = `# fish completion of shiftvol
function __shiftvol_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    for line in (command $words[1] __complete $words[2..-1] "$current" 2>/dev/null)
        if test "$line" = ":files"
            __fish_complete_path "$current"
        else
            echo $line
        end
    end
end
complete -c shiftvol -f -a '(__shiftvol_complete)'
`;

const SCRIPTS: Readonly<Record<Shell, string>> = { bash: BASH, zsh: ZSH, fish: FISH };
