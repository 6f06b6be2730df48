# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_keynsd_global_optspecs
    string join \n instance= engine= helpers= service-uid= config= bus= transient h/help V/version
end

function __fish_keynsd_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_keynsd_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_keynsd_using_subcommand
    set -l cmd (__fish_keynsd_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c keynsd -n "__fish_keynsd_needs_command" -l instance -d 'Name of the instance: its sockets are in /run/keyns/NAME, its state in /var/lib/keyns/NAME' -r
complete -c keynsd -n "__fish_keynsd_needs_command" -l engine -d 'How containers are made: “mainline” works on every kernel, “patched” only where the kernel has container objects; “auto” is the better one, or that whose containers live [default: that of the settings, else auto]' -r -f -a "auto\t''
mainline\t''
patched\t''"
complete -c keynsd -n "__fish_keynsd_needs_command" -l helpers -d 'Directory of keyns-stage, keyns-monitor and keyns-shelter [default: beside keynsd, else ../libexec/keyns]' -r -F
complete -c keynsd -n "__fish_keynsd_needs_command" -l service-uid -d 'Kernel uid, used by nobody else, whose user keyring keeps the keyrings of all containers [default: that of the settings, else 2147483725]' -r
complete -c keynsd -n "__fish_keynsd_needs_command" -l config -d 'File of settings, with those in the directory FILE.d [default: keyns.conf(5) for the instance “main”, none for others]' -r -F
complete -c keynsd -n "__fish_keynsd_needs_command" -l bus -d 'Bus to serve org.keyns on: “system”, “none”, or an address such as unix:path=/run/my-bus [default: system for the instance main, else none]' -r
complete -c keynsd -n "__fish_keynsd_needs_command" -l transient -d 'When stopped, end all containers and remove everything of the instance'
complete -c keynsd -n "__fish_keynsd_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keynsd -n "__fish_keynsd_needs_command" -s V -l version -d 'Print version'
complete -c keynsd -n "__fish_keynsd_needs_command" -f -a "upcall" -d 'Manage which program the kernel starts for requests (/sbin/request-key)'
complete -c keynsd -n "__fish_keynsd_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c keynsd -n "__fish_keynsd_using_subcommand upcall; and not __fish_seen_subcommand_from install uninstall status with recover help" -s h -l help -d 'Print help'
complete -c keynsd -n "__fish_keynsd_using_subcommand upcall; and not __fish_seen_subcommand_from install uninstall status with recover help" -f -a "install" -d 'Install keyns-upcall permanently as /sbin/request-key; the original is kept and executed for requests of the host'
complete -c keynsd -n "__fish_keynsd_using_subcommand upcall; and not __fish_seen_subcommand_from install uninstall status with recover help" -f -a "uninstall" -d 'Put the original program back'
complete -c keynsd -n "__fish_keynsd_using_subcommand upcall; and not __fish_seen_subcommand_from install uninstall status with recover help" -f -a "status" -d 'Show which program is in place and which one serves the host'
complete -c keynsd -n "__fish_keynsd_using_subcommand upcall; and not __fish_seen_subcommand_from install uninstall status with recover help" -f -a "with" -d 'Take over /sbin/request-key while a command runs, and give it back afterwards'
complete -c keynsd -n "__fish_keynsd_using_subcommand upcall; and not __fish_seen_subcommand_from install uninstall status with recover help" -f -a "recover" -d 'Undo a take-over that an interrupted command left behind'
complete -c keynsd -n "__fish_keynsd_using_subcommand upcall; and not __fish_seen_subcommand_from install uninstall status with recover help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c keynsd -n "__fish_keynsd_using_subcommand upcall; and __fish_seen_subcommand_from install" -l program -d 'The program [default: keyns-upcall beside keynsd, else in ../libexec/keyns]' -r -F
complete -c keynsd -n "__fish_keynsd_using_subcommand upcall; and __fish_seen_subcommand_from install" -l request-key -d 'Which program serves requests of the host [default: as it is; at first, original]' -r -f -a "original\t'The one that is there; keyns-request-key where there is none'
keyns\t'keyns-request-key, also where there is another'"
complete -c keynsd -n "__fish_keynsd_using_subcommand upcall; and __fish_seen_subcommand_from install" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keynsd -n "__fish_keynsd_using_subcommand upcall; and __fish_seen_subcommand_from uninstall" -s h -l help -d 'Print help'
complete -c keynsd -n "__fish_keynsd_using_subcommand upcall; and __fish_seen_subcommand_from status" -l json -d 'Print JSON'
complete -c keynsd -n "__fish_keynsd_using_subcommand upcall; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c keynsd -n "__fish_keynsd_using_subcommand upcall; and __fish_seen_subcommand_from with" -l program -d 'The program [default: keyns-upcall beside keynsd, else in ../libexec/keyns]' -r -F
complete -c keynsd -n "__fish_keynsd_using_subcommand upcall; and __fish_seen_subcommand_from with" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c keynsd -n "__fish_keynsd_using_subcommand upcall; and __fish_seen_subcommand_from recover" -s h -l help -d 'Print help'
complete -c keynsd -n "__fish_keynsd_using_subcommand upcall; and __fish_seen_subcommand_from help" -f -a "install" -d 'Install keyns-upcall permanently as /sbin/request-key; the original is kept and executed for requests of the host'
complete -c keynsd -n "__fish_keynsd_using_subcommand upcall; and __fish_seen_subcommand_from help" -f -a "uninstall" -d 'Put the original program back'
complete -c keynsd -n "__fish_keynsd_using_subcommand upcall; and __fish_seen_subcommand_from help" -f -a "status" -d 'Show which program is in place and which one serves the host'
complete -c keynsd -n "__fish_keynsd_using_subcommand upcall; and __fish_seen_subcommand_from help" -f -a "with" -d 'Take over /sbin/request-key while a command runs, and give it back afterwards'
complete -c keynsd -n "__fish_keynsd_using_subcommand upcall; and __fish_seen_subcommand_from help" -f -a "recover" -d 'Undo a take-over that an interrupted command left behind'
complete -c keynsd -n "__fish_keynsd_using_subcommand upcall; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c keynsd -n "__fish_keynsd_using_subcommand help; and not __fish_seen_subcommand_from upcall help" -f -a "upcall" -d 'Manage which program the kernel starts for requests (/sbin/request-key)'
complete -c keynsd -n "__fish_keynsd_using_subcommand help; and not __fish_seen_subcommand_from upcall help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c keynsd -n "__fish_keynsd_using_subcommand help; and __fish_seen_subcommand_from upcall" -f -a "install" -d 'Install keyns-upcall permanently as /sbin/request-key; the original is kept and executed for requests of the host'
complete -c keynsd -n "__fish_keynsd_using_subcommand help; and __fish_seen_subcommand_from upcall" -f -a "uninstall" -d 'Put the original program back'
complete -c keynsd -n "__fish_keynsd_using_subcommand help; and __fish_seen_subcommand_from upcall" -f -a "status" -d 'Show which program is in place and which one serves the host'
complete -c keynsd -n "__fish_keynsd_using_subcommand help; and __fish_seen_subcommand_from upcall" -f -a "with" -d 'Take over /sbin/request-key while a command runs, and give it back afterwards'
complete -c keynsd -n "__fish_keynsd_using_subcommand help; and __fish_seen_subcommand_from upcall" -f -a "recover" -d 'Undo a take-over that an interrupted command left behind'
