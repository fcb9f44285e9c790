# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_bedplate_global_optspecs
    string join \n h/help V/version
end

function __fish_bedplate_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_bedplate_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_bedplate_using_subcommand
    set -l cmd (__fish_bedplate_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c bedplate -n "__fish_bedplate_needs_command" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_needs_command" -s V -l version -d 'Print version'
complete -c bedplate -n "__fish_bedplate_needs_command" -f -a "check" -d 'Find what would bring the platform down in manifests, Dockerfiles and Corefiles'
complete -c bedplate -n "__fish_bedplate_needs_command" -f -a "explain" -d 'Show what Bedplate sees in a file: roles, replicas, accelerators, images, signals, grace'
complete -c bedplate -n "__fish_bedplate_needs_command" -f -a "rules" -d 'List the rules, or print the page of one'
complete -c bedplate -n "__fish_bedplate_needs_command" -f -a "init" -d 'Write a commented bedplate.yaml that fits the manifests that are there'
complete -c bedplate -n "__fish_bedplate_needs_command" -f -a "schema" -d 'Print the JSON Schema of bedplate.yaml, or of the JSON report'
complete -c bedplate -n "__fish_bedplate_needs_command" -f -a "completions" -d 'Print completions for a shell'
complete -c bedplate -n "__fish_bedplate_needs_command" -f -a "man" -d 'Print the manual page'
complete -c bedplate -n "__fish_bedplate_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c bedplate -n "__fish_bedplate_using_subcommand check" -l format -d 'How to write what is found: text, json, sarif, junit, github or html' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand check" -s o -l output -d 'Write the report to a file' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand check" -l profile -d 'The profile [default: the nearest bedplate.yaml upward from the first path]' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand check" -l fix -d 'Make the safe fixes, in place, keeping every other byte'
complete -c bedplate -n "__fish_bedplate_using_subcommand check" -l diff -d 'Show what --fix would change, and change nothing'
complete -c bedplate -n "__fish_bedplate_using_subcommand check" -l unsafe-fixes -d 'With --fix or --diff: fixes that may change behaviour too'
complete -c bedplate -n "__fish_bedplate_using_subcommand check" -s q -l quiet -d 'Only findings, no notes and no summary'
complete -c bedplate -n "__fish_bedplate_using_subcommand check" -l no-ignore -d 'Read files that .gitignore and the like leave out'
complete -c bedplate -n "__fish_bedplate_using_subcommand check" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_using_subcommand explain" -l profile -d 'The profile [default: the nearest bedplate.yaml upward from the first file]' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand explain" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_using_subcommand rules" -l markdown -d 'Write a page a rule, and their index, into this folder' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand rules" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_using_subcommand init" -l stdout -d 'Print it instead of writing bedplate.yaml'
complete -c bedplate -n "__fish_bedplate_using_subcommand init" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_using_subcommand schema" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c bedplate -n "__fish_bedplate_using_subcommand completions" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_using_subcommand man" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain rules init schema completions man help" -f -a "check" -d 'Find what would bring the platform down in manifests, Dockerfiles and Corefiles'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain rules init schema completions man help" -f -a "explain" -d 'Show what Bedplate sees in a file: roles, replicas, accelerators, images, signals, grace'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain rules init schema completions man help" -f -a "rules" -d 'List the rules, or print the page of one'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain rules init schema completions man help" -f -a "init" -d 'Write a commented bedplate.yaml that fits the manifests that are there'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain rules init schema completions man help" -f -a "schema" -d 'Print the JSON Schema of bedplate.yaml, or of the JSON report'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain rules init schema completions man help" -f -a "completions" -d 'Print completions for a shell'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain rules init schema completions man help" -f -a "man" -d 'Print the manual page'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain rules init schema completions man help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
