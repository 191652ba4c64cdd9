# SPDX-License-Identifier: Apache-2.0
# bash completion of hfbus: commands, their options, and names of topics
_hfbus()
{
	local word=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]}

	if [ "$COMP_CWORD" = 1 ]; then
		mapfile -t COMPREPLY < <(compgen -W "$(hfbus --help 2>/dev/null |
			sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')" -- "$word")
	elif [ "${word#-}" != "$word" ]; then
		mapfile -t COMPREPLY < <(compgen -W "$(hfbus "$command" --help 2>/dev/null |
			grep -o -- '--[a-z][a-z-]*' | sort -u)" -- "$word")
	else
		case $command in
		publish | consume | topic)
			mapfile -t COMPREPLY < <(compgen -W "$(hfbus topic list --json 2>/dev/null |
				grep -o '"name": *"[^"]*"' | cut -d'"' -f4)" -- "$word")
			;;
		esac
	fi
}
complete -o default -F _hfbus hfbus
