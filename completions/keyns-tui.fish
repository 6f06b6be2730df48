complete -c keyns-tui -l theme -d 'Colours: terminal, high-contrast, colour-blind, mono (also set by NO_COLOR)' -r -f -a "terminal\t'The 16 colours that the terminal is set to'
high-contrast\t'White, yellow and bold on black'
colour-blind\t'Blue, orange and white, which are told apart with any kind of colour vision'
mono\t'No colours'"
complete -c keyns-tui -l config -d 'Configuration file, instead of keyns/tui.toml in $XDG_CONFIG_HOME or ~/.config' -r -F
complete -c keyns-tui -l socket -d 'Socket of the daemon, instead of the one of --instance' -r -F
complete -c keyns-tui -l instance -d 'Instance of the daemon; its socket is /run/keyns/NAME/keynsd' -r
complete -c keyns-tui -l shell -d 'What the program starts itself with for a shell in a container, which needs a process of its own: whatever reads the terminal for it ends with it' -r
complete -c keyns-tui -l no-mouse -d 'Leave the mouse to the terminal'
complete -c keyns-tui -l ascii -d 'Draw with ASCII characters alone, as in locales without UTF-8'
complete -c keyns-tui -l read-only -d 'Refuse everything that changes something'
complete -c keyns-tui -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keyns-tui -s V -l version -d 'Print version'
