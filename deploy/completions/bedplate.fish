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
complete -c bedplate -n "__fish_bedplate_needs_command" -f -a "audit" -d 'The same rules over what is in a cluster'
complete -c bedplate -n "__fish_bedplate_needs_command" -f -a "plan" -d 'What apply would change in the cluster, and what the guards would refuse of what is there'
complete -c bedplate -n "__fish_bedplate_needs_command" -f -a "apply" -d 'Put the guards into the cluster'
complete -c bedplate -n "__fish_bedplate_needs_command" -f -a "rollback" -d 'Everything as it was before the last apply: profile, exemptions, guards'
complete -c bedplate -n "__fish_bedplate_needs_command" -f -a "uninstall" -d 'Remove everything that Bedplate put into the cluster'
complete -c bedplate -n "__fish_bedplate_needs_command" -f -a "render" -d 'Print what apply puts into a cluster, or the guard of the guards as files for the API server'
complete -c bedplate -n "__fish_bedplate_needs_command" -f -a "serve" -d 'Run the operator: the admission webhook, its certificates, health and metrics'
complete -c bedplate -n "__fish_bedplate_needs_command" -f -a "prove" -d 'Try everything that should be refused, with dry runs'
complete -c bedplate -n "__fish_bedplate_needs_command" -f -a "impact" -d 'What hangs on an object'
complete -c bedplate -n "__fish_bedplate_needs_command" -f -a "unlock" -d 'Let one deletion through, for a while and with a reason'
complete -c bedplate -n "__fish_bedplate_needs_command" -f -a "lock" -d 'Take an unlock back'
complete -c bedplate -n "__fish_bedplate_needs_command" -f -a "apf" -d 'Flow control: which lane a request to the API server rides in, and why'
complete -c bedplate -n "__fish_bedplate_needs_command" -f -a "dns" -d 'Names: what a lookup in a pod costs, query by query'
complete -c bedplate -n "__fish_bedplate_needs_command" -f -a "trail" -d 'What is on record: refusals, unlocks, exemptions'
complete -c bedplate -n "__fish_bedplate_needs_command" -f -a "rbac" -d 'Print the ClusterRole that a command needs'
complete -c bedplate -n "__fish_bedplate_needs_command" -f -a "checkpoint" -d 'Look after the checkpoints of a training run: list, verify, compare, export, prune'
complete -c bedplate -n "__fish_bedplate_needs_command" -f -a "wrap" -d 'Run a command so that a SIGTERM reaches the program behind shells and launchers, and wait for all that it started'
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
complete -c bedplate -n "__fish_bedplate_using_subcommand audit" -l kubeconfig -d 'The kubeconfig [default: $KUBECONFIG, ~/.kube/config, or the pod\'s own account]' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand audit" -l context -d 'Context of the kubeconfig [default: the current one]' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand audit" -l request-timeout -d 'Seconds that the API server may be silent' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand audit" -s n -l namespace -d 'One namespace only' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand audit" -l format -d 'How to write what is found: text, json, sarif, junit, github or html' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand audit" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_using_subcommand plan" -l kubeconfig -d 'The kubeconfig [default: $KUBECONFIG, ~/.kube/config, or the pod\'s own account]' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand plan" -l context -d 'Context of the kubeconfig [default: the current one]' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand plan" -l request-timeout -d 'Seconds that the API server may be silent' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand plan" -s f -l file -d 'The profile and exemptions to apply: a bedplate.yaml [default: the cluster\'s own profile stays]' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand plan" -l operator -d 'What runs the operator too, with this image: one that was built with deploy/Dockerfile' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand plan" -l server-concurrency -d 'Seats of one API server, --max-requests-inflight and --max-mutating-requests-inflight together, to tell what each level of flow control gains and loses [default: the profile\'s, 600]' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand plan" -l enforce -d 'A first installation refuses at once, instead of beginning in the mode `audit`'
complete -c bedplate -n "__fish_bedplate_using_subcommand plan" -l force-conflicts -d 'Take over fields that another field manager owns'
complete -c bedplate -n "__fish_bedplate_using_subcommand plan" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_using_subcommand apply" -l kubeconfig -d 'The kubeconfig [default: $KUBECONFIG, ~/.kube/config, or the pod\'s own account]' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand apply" -l context -d 'Context of the kubeconfig [default: the current one]' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand apply" -l request-timeout -d 'Seconds that the API server may be silent' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand apply" -s f -l file -d 'The profile and exemptions to apply: a bedplate.yaml [default: the cluster\'s own profile stays]' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand apply" -l operator -d 'What runs the operator too, with this image: one that was built with deploy/Dockerfile' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand apply" -l enforce -d 'A first installation refuses at once, instead of beginning in the mode `audit`'
complete -c bedplate -n "__fish_bedplate_using_subcommand apply" -l force-conflicts -d 'Take over fields that another field manager owns'
complete -c bedplate -n "__fish_bedplate_using_subcommand apply" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_using_subcommand rollback" -l kubeconfig -d 'The kubeconfig [default: $KUBECONFIG, ~/.kube/config, or the pod\'s own account]' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand rollback" -l context -d 'Context of the kubeconfig [default: the current one]' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand rollback" -l request-timeout -d 'Seconds that the API server may be silent' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand rollback" -l force-conflicts -d 'Take over fields that another field manager owns'
complete -c bedplate -n "__fish_bedplate_using_subcommand rollback" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_using_subcommand uninstall" -l kubeconfig -d 'The kubeconfig [default: $KUBECONFIG, ~/.kube/config, or the pod\'s own account]' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand uninstall" -l context -d 'Context of the kubeconfig [default: the current one]' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand uninstall" -l request-timeout -d 'Seconds that the API server may be silent' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand uninstall" -l keep-namespace -d 'Leave Bedplate\'s namespace, for what else is in it'
complete -c bedplate -n "__fish_bedplate_using_subcommand uninstall" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_using_subcommand render" -l helm -d 'The Helm chart of this version, into a folder: its files are written, others there stay' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand render" -l image -d 'The image of the operator: one that was built with deploy/Dockerfile' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand render" -l crds -d 'The definitions only'
complete -c bedplate -n "__fish_bedplate_using_subcommand render" -l static -d 'Policies for the API server\'s `staticManifestsDir` (Kubernetes 1.37): nobody deletes the guards through the API'
complete -c bedplate -n "__fish_bedplate_using_subcommand render" -l operator -d 'What runs the operator: Deployment, rights, webhooks'
complete -c bedplate -n "__fish_bedplate_using_subcommand render" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_using_subcommand serve" -l kubeconfig -d 'The kubeconfig [default: $KUBECONFIG, ~/.kube/config, or the pod\'s own account]' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand serve" -l context -d 'Context of the kubeconfig [default: the current one]' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand serve" -l request-timeout -d 'Seconds that the API server may be silent' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand serve" -l listen -d 'Where the webhook listens, with TLS' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand serve" -l health -d 'Where /healthz, /readyz and /metrics are, in plain HTTP' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand serve" -l name -d 'Further names or addresses by which API servers reach the webhook' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand serve" -l namespace -d 'The namespace of its Secret and its Lease' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand serve" -l tls-cert -d 'Certificate that somebody else rotates (a mounted Secret of cert-manager); Bedplate then makes none' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand serve" -l tls-key -d 'Its key' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand serve" -l certificate-life -d 'How long a serving certificate is valid; its authority lives four times as long' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand serve" -l audit-every -d 'How often the leader audits the cluster, for reports, status and metrics; 0s: never' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand serve" -l drain -d 'How long it answers on after SIGTERM, until nobody sends it requests any more' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand serve" -l profile -d 'Judge by this profile, without any cluster; needs --tls-cert and --tls-key' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand serve" -l otlp-endpoint -d 'Send traces to this collector, over OTLP/HTTP: https://HOST:4318 [default: $OTEL_EXPORTER_OTLP_ENDPOINT, or none]' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand serve" -l log-format -d 'How the log is written' -r -f -a "text\t'For people'
json\t'For programs'"
complete -c bedplate -n "__fish_bedplate_using_subcommand serve" -s v -l verbose -d 'Log more: what goes on underneath'
complete -c bedplate -n "__fish_bedplate_using_subcommand serve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c bedplate -n "__fish_bedplate_using_subcommand prove" -l kubeconfig -d 'The kubeconfig [default: $KUBECONFIG, ~/.kube/config, or the pod\'s own account]' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand prove" -l context -d 'Context of the kubeconfig [default: the current one]' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand prove" -l request-timeout -d 'Seconds that the API server may be silent' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand prove" -s n -l namespace -d 'The namespace that objects are tried in, nothing is created but what `dns` and `training` run; a flood is sent into those of users, where there are any' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand prove" -l image -d 'The image that `dns` and `training` run: for `dns` one with a shell, and python3, getent or ping, whose C library is tried (by default busybox); for `training` one of yours, with Python, torch or numpy, and the package `bedplate`' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand prove" -l requests -d 'Most requests of the flood' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand prove" -l seconds -d 'Longest time of the flood' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand prove" -l concurrency -d 'Clients that flood at once' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand prove" -l p99 -d 'The p99 of the controller\'s requests, in milliseconds, up to which the guarantee holds' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand prove" -l name -d 'The name that is looked up: one outside the cluster' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand prove" -l lookups -d 'How often it is looked up' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand prove" -l claim -d 'A PersistentVolumeClaim for the checkpoints: a folder in it is used, and removed; by default one is made, and goes with the job' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand prove" -l storage-class -d 'The storage class of the claim that is made; by default the cluster\'s own' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand prove" -l state -d 'Megabytes of the state that is saved: as many as a training of yours has, to see how long that takes' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand prove" -l grace -d 'Seconds that the pod is given to end' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand prove" -s q -l quiet -d 'Only what got through or could not be tried'
complete -c bedplate -n "__fish_bedplate_using_subcommand prove" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c bedplate -n "__fish_bedplate_using_subcommand impact; and not __fish_seen_subcommand_from delete help" -l kubeconfig -d 'The kubeconfig [default: $KUBECONFIG, ~/.kube/config, or the pod\'s own account]' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand impact; and not __fish_seen_subcommand_from delete help" -l context -d 'Context of the kubeconfig [default: the current one]' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand impact; and not __fish_seen_subcommand_from delete help" -l request-timeout -d 'Seconds that the API server may be silent' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand impact; and not __fish_seen_subcommand_from delete help" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_using_subcommand impact; and not __fish_seen_subcommand_from delete help" -f -a "delete" -d 'What a deletion would take along'
complete -c bedplate -n "__fish_bedplate_using_subcommand impact; and not __fish_seen_subcommand_from delete help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c bedplate -n "__fish_bedplate_using_subcommand impact; and __fish_seen_subcommand_from delete" -s n -l namespace -d 'Its namespace, where it has one' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand impact; and __fish_seen_subcommand_from delete" -l kubeconfig -d 'The kubeconfig [default: $KUBECONFIG, ~/.kube/config, or the pod\'s own account]' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand impact; and __fish_seen_subcommand_from delete" -l context -d 'Context of the kubeconfig [default: the current one]' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand impact; and __fish_seen_subcommand_from delete" -l request-timeout -d 'Seconds that the API server may be silent' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand impact; and __fish_seen_subcommand_from delete" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_using_subcommand impact; and __fish_seen_subcommand_from help" -f -a "delete" -d 'What a deletion would take along'
complete -c bedplate -n "__fish_bedplate_using_subcommand impact; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c bedplate -n "__fish_bedplate_using_subcommand unlock" -l kubeconfig -d 'The kubeconfig [default: $KUBECONFIG, ~/.kube/config, or the pod\'s own account]' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand unlock" -l context -d 'Context of the kubeconfig [default: the current one]' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand unlock" -l request-timeout -d 'Seconds that the API server may be silent' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand unlock" -s n -l namespace -d 'Its namespace, where it has one' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand unlock" -l reason -d 'Why, for whoever reads the record' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand unlock" -l for -d 'For how many minutes' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand unlock" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_using_subcommand lock" -l kubeconfig -d 'The kubeconfig [default: $KUBECONFIG, ~/.kube/config, or the pod\'s own account]' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand lock" -l context -d 'Context of the kubeconfig [default: the current one]' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand lock" -l request-timeout -d 'Seconds that the API server may be silent' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand lock" -s n -l namespace -d 'Its namespace, where it has one' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand lock" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and not __fish_seen_subcommand_from explain simulate top help" -l kubeconfig -d 'The kubeconfig [default: $KUBECONFIG, ~/.kube/config, or the pod\'s own account]' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and not __fish_seen_subcommand_from explain simulate top help" -l context -d 'Context of the kubeconfig [default: the current one]' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and not __fish_seen_subcommand_from explain simulate top help" -l request-timeout -d 'Seconds that the API server may be silent' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and not __fish_seen_subcommand_from explain simulate top help" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and not __fish_seen_subcommand_from explain simulate top help" -f -a "explain" -d 'Which lane a request rides in, and why'
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and not __fish_seen_subcommand_from explain simulate top help" -f -a "simulate" -d 'What a load would do to each lane, before and after a change'
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and not __fish_seen_subcommand_from explain simulate top help" -f -a "top" -d 'The lanes live: seats, queues, waits, refusals, and who sends most'
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and not __fish_seen_subcommand_from explain simulate top help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from explain" -l as -d 'Who sends it: a user, or `system:serviceaccount:NAMESPACE:NAME` [default: you]' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from explain" -l as-group -d 'A group of that user, besides those that every server gives' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from explain" -l verb -d '`get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from explain" -l resource -d 'What is asked for: `pods`, `deploy`, `pytorchjobs.kubeflow.org`, `pods/exec`' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from explain" -l path -d 'A path that is no resource: `/healthz`' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from explain" -s n -l namespace -d 'The namespace [default: none: all of them, or what has none]' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from explain" -l audit-log -d 'The requests of an audit log (audit.k8s.io/v1, one event a line); `-` is standard input' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from explain" -l server-concurrency -d 'Seats of one API server: --max-requests-inflight and --max-mutating-requests-inflight together' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from explain" -l kubeconfig -d 'The kubeconfig [default: $KUBECONFIG, ~/.kube/config, or the pod\'s own account]' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from explain" -l context -d 'Context of the kubeconfig [default: the current one]' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from explain" -l request-timeout -d 'Seconds that the API server may be silent' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from explain" -l all-controllers -d 'Every controller of the platform that is found in the cluster, and its leases: who rides where today'
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from explain" -l offline -d 'Do not ask the server where it puts such a request'
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from explain" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from simulate" -l mix -d 'The load: who sends what [default: an operator beside a search that floods; --example prints it]' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from simulate" -l flood -d 'A flood by its name: hpo:5000, notebooks:500, pipelines:2000; beside --mix, both' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from simulate" -l audit-log -d 'The load as it was: an audit log (audit.k8s.io/v1, one event a line); `-` is standard input' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from simulate" -l objects -d 'All FlowSchemas and PriorityLevelConfigurations, instead of a cluster\'s: what `kubectl get flowschemas,prioritylevelconfigurations -o yaml` prints' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from simulate" -l with -d 'FlowSchemas and PriorityLevelConfigurations to add: shown before and after' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from simulate" -l seconds -d 'Seconds of the cluster\'s time [default: 60, or that of the audit log]' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from simulate" -l seed -d 'Of the random times' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from simulate" -l server-concurrency -d 'Seats of one API server: --max-requests-inflight and --max-mutating-requests-inflight together' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from simulate" -l cores -d 'Cores that it has for requests' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from simulate" -l format -d '`text`, or `json` with every lane over time' -r -f -a "text\t'For people'
json\t'For programs'"
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from simulate" -l svg -d 'Write a picture: seats and queues of each lane over time' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from simulate" -l html -d 'Write a page: the picture and the tables, all in one file' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from simulate" -l kubeconfig -d 'The kubeconfig [default: $KUBECONFIG, ~/.kube/config, or the pod\'s own account]' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from simulate" -l context -d 'Context of the kubeconfig [default: the current one]' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from simulate" -l request-timeout -d 'Seconds that the API server may be silent' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from simulate" -l example -d 'Print the default load, to begin with'
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from simulate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from top" -l every -d 'Seconds between two readings' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from top" -l format -d '`text`, or `json` once' -r -f -a "text\t'For people'
json\t'For programs'"
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from top" -l sort -d 'By what the lanes are sorted' -r -f -a "name\t'By name'
seats\t'Most seats in use first'
waiting\t'Most requests that wait first'
p99\t'Longest waits first'
refused\t'Most refused first'"
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from top" -l kubeconfig -d 'The kubeconfig [default: $KUBECONFIG, ~/.kube/config, or the pod\'s own account]' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from top" -l context -d 'Context of the kubeconfig [default: the current one]' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from top" -l request-timeout -d 'Seconds that the API server may be silent' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from top" -l once -d 'Two readings, printed once: also where the output is no terminal'
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from top" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from help" -f -a "explain" -d 'Which lane a request rides in, and why'
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from help" -f -a "simulate" -d 'What a load would do to each lane, before and after a change'
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from help" -f -a "top" -d 'The lanes live: seats, queues, waits, refusals, and who sends most'
complete -c bedplate -n "__fish_bedplate_using_subcommand apf; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and not __fish_seen_subcommand_from explain edit stats help" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and not __fish_seen_subcommand_from explain edit stats help" -f -a "explain" -d 'The queries that one lookup makes, one after the other, and what each remedy makes of them'
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and not __fish_seen_subcommand_from explain edit stats help" -f -a "edit" -d 'Put autopath into a Corefile, or a ConfigMap with one, and show the difference; changes nothing'
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and not __fish_seen_subcommand_from explain edit stats help" -f -a "stats" -d 'What CoreDNS answers now: queries, names that there are not, answers out of its cache'
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and not __fish_seen_subcommand_from explain edit stats help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and __fish_seen_subcommand_from explain" -l libc -d 'Who looks it up' -r -f -a "glibc\t''
musl\t''
go\t''
c-ares\t''"
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and __fish_seen_subcommand_from explain" -l pod -d 'A pod of the cluster, whose dnsPolicy and dnsConfig hold: NAMESPACE/NAME' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and __fish_seen_subcommand_from explain" -l resolv-conf -d 'A file as in /etc/resolv.conf of a pod; `-` is standard input' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and __fish_seen_subcommand_from explain" -s n -l namespace -d 'The namespace of a pod that has no dnsConfig' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and __fish_seen_subcommand_from explain" -l cluster-domain -d 'The cluster\'s domain' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and __fish_seen_subcommand_from explain" -l option -d 'An option of the resolver instead of the pod\'s: `ndots:2`, `single-request`' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and __fish_seen_subcommand_from explain" -l exists -d 'A name that there is, written out [default: NAME as it stands; with --pod also the cluster\'s Services]' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and __fish_seen_subcommand_from explain" -l kubeconfig -d 'The kubeconfig [default: $KUBECONFIG, ~/.kube/config, or the pod\'s own account]' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and __fish_seen_subcommand_from explain" -l context -d 'Context of the kubeconfig [default: the current one]' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and __fish_seen_subcommand_from explain" -l request-timeout -d 'Seconds that the API server may be silent' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and __fish_seen_subcommand_from explain" -l ipv4 -d 'Ask for A alone, as `java -Djava.net.preferIPv4Stack=true` does'
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and __fish_seen_subcommand_from explain" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and __fish_seen_subcommand_from edit" -l pods -d 'Pods of the cluster, for the memory that CoreDNS will take' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and __fish_seen_subcommand_from edit" -l services -d 'Services of the cluster' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and __fish_seen_subcommand_from edit" -l memory -d 'The memory that a CoreDNS pod may have, in MiB: more than that is refused' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and __fish_seen_subcommand_from edit" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and __fish_seen_subcommand_from stats" -l seconds -d 'Seconds between the two readings of its metrics' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and __fish_seen_subcommand_from stats" -l top -d 'How many of them, and of the names, are shown' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and __fish_seen_subcommand_from stats" -l kubeconfig -d 'The kubeconfig [default: $KUBECONFIG, ~/.kube/config, or the pod\'s own account]' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and __fish_seen_subcommand_from stats" -l context -d 'Context of the kubeconfig [default: the current one]' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and __fish_seen_subcommand_from stats" -l request-timeout -d 'Seconds that the API server may be silent' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and __fish_seen_subcommand_from stats" -l clients -d 'Also who asks, and for what, out of CoreDNS\'s log of queries, where its Corefile has `log`'
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and __fish_seen_subcommand_from stats" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and __fish_seen_subcommand_from help" -f -a "explain" -d 'The queries that one lookup makes, one after the other, and what each remedy makes of them'
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and __fish_seen_subcommand_from help" -f -a "edit" -d 'Put autopath into a Corefile, or a ConfigMap with one, and show the difference; changes nothing'
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and __fish_seen_subcommand_from help" -f -a "stats" -d 'What CoreDNS answers now: queries, names that there are not, answers out of its cache'
complete -c bedplate -n "__fish_bedplate_using_subcommand dns; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c bedplate -n "__fish_bedplate_using_subcommand trail" -l kubeconfig -d 'The kubeconfig [default: $KUBECONFIG, ~/.kube/config, or the pod\'s own account]' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand trail" -l context -d 'Context of the kubeconfig [default: the current one]' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand trail" -l request-timeout -d 'Seconds that the API server may be silent' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand trail" -l json -d 'One JSON object a line, for programs'
complete -c bedplate -n "__fish_bedplate_using_subcommand trail" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_using_subcommand rbac" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and not __fish_seen_subcommand_from ls verify show diff export prune help" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and not __fish_seen_subcommand_from ls verify show diff export prune help" -f -a "ls" -d 'List the checkpoints of a folder: steps, sizes, metrics, health'
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and not __fish_seen_subcommand_from ls verify show diff export prune help" -f -a "verify" -d 'Read every byte and say what is damaged'
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and not __fish_seen_subcommand_from ls verify show diff export prune help" -f -a "show" -d 'Show what is in a checkpoint: tensors, blobs, ranks, metrics'
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and not __fish_seen_subcommand_from ls verify show diff export prune help" -f -a "diff" -d 'What changed between two steps'
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and not __fish_seen_subcommand_from ls verify show diff export prune help" -f -a "export" -d 'Write a checkpoint as one plain safetensors file'
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and not __fish_seen_subcommand_from ls verify show diff export prune help" -f -a "prune" -d 'Show what a retention would remove, and with --yes remove it'
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and not __fish_seen_subcommand_from ls verify show diff export prune help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and __fish_seen_subcommand_from ls" -l format -d 'How to write it' -r -f -a "text\t'For people'
json\t'One JSON object'"
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and __fish_seen_subcommand_from verify" -l format -d 'How to write it' -r -f -a "text\t'For people'
json\t'One JSON object'"
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and __fish_seen_subcommand_from verify" -l step -d 'Only this step' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and __fish_seen_subcommand_from verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and __fish_seen_subcommand_from show" -l format -d 'How to write it' -r -f -a "text\t'For people'
json\t'One JSON object'"
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and __fish_seen_subcommand_from show" -l step -d 'Which step [default: the newest]' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and __fish_seen_subcommand_from diff" -l format -d 'How to write it' -r -f -a "text\t'For people'
json\t'One JSON object'"
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and __fish_seen_subcommand_from diff" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and __fish_seen_subcommand_from export" -l format -d 'How to write it' -r -f -a "text\t'For people'
json\t'One JSON object'"
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and __fish_seen_subcommand_from export" -l step -d 'Which step [default: the newest]' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and __fish_seen_subcommand_from prune" -l format -d 'How to write it' -r -f -a "text\t'For people'
json\t'One JSON object'"
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and __fish_seen_subcommand_from prune" -l last -d 'Keep so many of the newest' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and __fish_seen_subcommand_from prune" -l every -d 'Keep the steps that are a multiple of this' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and __fish_seen_subcommand_from prune" -l lowest -d 'Keep the best by this metric, the lowest' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and __fish_seen_subcommand_from prune" -l highest -d 'Keep the best by this metric, the highest' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and __fish_seen_subcommand_from prune" -l best -d 'How many of the best' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and __fish_seen_subcommand_from prune" -l yes -d 'Remove them, instead of only showing what would go'
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and __fish_seen_subcommand_from prune" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and __fish_seen_subcommand_from help" -f -a "ls" -d 'List the checkpoints of a folder: steps, sizes, metrics, health'
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and __fish_seen_subcommand_from help" -f -a "verify" -d 'Read every byte and say what is damaged'
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and __fish_seen_subcommand_from help" -f -a "show" -d 'Show what is in a checkpoint: tensors, blobs, ranks, metrics'
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and __fish_seen_subcommand_from help" -f -a "diff" -d 'What changed between two steps'
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and __fish_seen_subcommand_from help" -f -a "export" -d 'Write a checkpoint as one plain safetensors file'
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and __fish_seen_subcommand_from help" -f -a "prune" -d 'Show what a retention would remove, and with --yes remove it'
complete -c bedplate -n "__fish_bedplate_using_subcommand checkpoint; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c bedplate -n "__fish_bedplate_using_subcommand wrap" -l grace -d 'Seconds between the notice and the kill: the pod\'s terminationGracePeriodSeconds [default: BEDPLATE_GRACE_SECONDS, else 30]' -r
complete -c bedplate -n "__fish_bedplate_using_subcommand wrap" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_using_subcommand rules" -l markdown -d 'Write a page a rule, and their index, into this folder' -r -F
complete -c bedplate -n "__fish_bedplate_using_subcommand rules" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_using_subcommand init" -l stdout -d 'Print it instead of writing bedplate.yaml'
complete -c bedplate -n "__fish_bedplate_using_subcommand init" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_using_subcommand schema" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c bedplate -n "__fish_bedplate_using_subcommand completions" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_using_subcommand man" -s h -l help -d 'Print help'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain audit plan apply rollback uninstall render serve prove impact unlock lock apf dns trail rbac checkpoint wrap rules init schema completions man help" -f -a "check" -d 'Find what would bring the platform down in manifests, Dockerfiles and Corefiles'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain audit plan apply rollback uninstall render serve prove impact unlock lock apf dns trail rbac checkpoint wrap rules init schema completions man help" -f -a "explain" -d 'Show what Bedplate sees in a file: roles, replicas, accelerators, images, signals, grace'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain audit plan apply rollback uninstall render serve prove impact unlock lock apf dns trail rbac checkpoint wrap rules init schema completions man help" -f -a "audit" -d 'The same rules over what is in a cluster'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain audit plan apply rollback uninstall render serve prove impact unlock lock apf dns trail rbac checkpoint wrap rules init schema completions man help" -f -a "plan" -d 'What apply would change in the cluster, and what the guards would refuse of what is there'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain audit plan apply rollback uninstall render serve prove impact unlock lock apf dns trail rbac checkpoint wrap rules init schema completions man help" -f -a "apply" -d 'Put the guards into the cluster'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain audit plan apply rollback uninstall render serve prove impact unlock lock apf dns trail rbac checkpoint wrap rules init schema completions man help" -f -a "rollback" -d 'Everything as it was before the last apply: profile, exemptions, guards'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain audit plan apply rollback uninstall render serve prove impact unlock lock apf dns trail rbac checkpoint wrap rules init schema completions man help" -f -a "uninstall" -d 'Remove everything that Bedplate put into the cluster'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain audit plan apply rollback uninstall render serve prove impact unlock lock apf dns trail rbac checkpoint wrap rules init schema completions man help" -f -a "render" -d 'Print what apply puts into a cluster, or the guard of the guards as files for the API server'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain audit plan apply rollback uninstall render serve prove impact unlock lock apf dns trail rbac checkpoint wrap rules init schema completions man help" -f -a "serve" -d 'Run the operator: the admission webhook, its certificates, health and metrics'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain audit plan apply rollback uninstall render serve prove impact unlock lock apf dns trail rbac checkpoint wrap rules init schema completions man help" -f -a "prove" -d 'Try everything that should be refused, with dry runs'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain audit plan apply rollback uninstall render serve prove impact unlock lock apf dns trail rbac checkpoint wrap rules init schema completions man help" -f -a "impact" -d 'What hangs on an object'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain audit plan apply rollback uninstall render serve prove impact unlock lock apf dns trail rbac checkpoint wrap rules init schema completions man help" -f -a "unlock" -d 'Let one deletion through, for a while and with a reason'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain audit plan apply rollback uninstall render serve prove impact unlock lock apf dns trail rbac checkpoint wrap rules init schema completions man help" -f -a "lock" -d 'Take an unlock back'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain audit plan apply rollback uninstall render serve prove impact unlock lock apf dns trail rbac checkpoint wrap rules init schema completions man help" -f -a "apf" -d 'Flow control: which lane a request to the API server rides in, and why'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain audit plan apply rollback uninstall render serve prove impact unlock lock apf dns trail rbac checkpoint wrap rules init schema completions man help" -f -a "dns" -d 'Names: what a lookup in a pod costs, query by query'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain audit plan apply rollback uninstall render serve prove impact unlock lock apf dns trail rbac checkpoint wrap rules init schema completions man help" -f -a "trail" -d 'What is on record: refusals, unlocks, exemptions'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain audit plan apply rollback uninstall render serve prove impact unlock lock apf dns trail rbac checkpoint wrap rules init schema completions man help" -f -a "rbac" -d 'Print the ClusterRole that a command needs'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain audit plan apply rollback uninstall render serve prove impact unlock lock apf dns trail rbac checkpoint wrap rules init schema completions man help" -f -a "checkpoint" -d 'Look after the checkpoints of a training run: list, verify, compare, export, prune'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain audit plan apply rollback uninstall render serve prove impact unlock lock apf dns trail rbac checkpoint wrap rules init schema completions man help" -f -a "wrap" -d 'Run a command so that a SIGTERM reaches the program behind shells and launchers, and wait for all that it started'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain audit plan apply rollback uninstall render serve prove impact unlock lock apf dns trail rbac checkpoint wrap rules init schema completions man help" -f -a "rules" -d 'List the rules, or print the page of one'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain audit plan apply rollback uninstall render serve prove impact unlock lock apf dns trail rbac checkpoint wrap rules init schema completions man help" -f -a "init" -d 'Write a commented bedplate.yaml that fits the manifests that are there'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain audit plan apply rollback uninstall render serve prove impact unlock lock apf dns trail rbac checkpoint wrap rules init schema completions man help" -f -a "schema" -d 'Print the JSON Schema of bedplate.yaml, or of the JSON report'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain audit plan apply rollback uninstall render serve prove impact unlock lock apf dns trail rbac checkpoint wrap rules init schema completions man help" -f -a "completions" -d 'Print completions for a shell'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain audit plan apply rollback uninstall render serve prove impact unlock lock apf dns trail rbac checkpoint wrap rules init schema completions man help" -f -a "man" -d 'Print the manual page'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and not __fish_seen_subcommand_from check explain audit plan apply rollback uninstall render serve prove impact unlock lock apf dns trail rbac checkpoint wrap rules init schema completions man help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and __fish_seen_subcommand_from impact" -f -a "delete" -d 'What a deletion would take along'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and __fish_seen_subcommand_from apf" -f -a "explain" -d 'Which lane a request rides in, and why'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and __fish_seen_subcommand_from apf" -f -a "simulate" -d 'What a load would do to each lane, before and after a change'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and __fish_seen_subcommand_from apf" -f -a "top" -d 'The lanes live: seats, queues, waits, refusals, and who sends most'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and __fish_seen_subcommand_from dns" -f -a "explain" -d 'The queries that one lookup makes, one after the other, and what each remedy makes of them'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and __fish_seen_subcommand_from dns" -f -a "edit" -d 'Put autopath into a Corefile, or a ConfigMap with one, and show the difference; changes nothing'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and __fish_seen_subcommand_from dns" -f -a "stats" -d 'What CoreDNS answers now: queries, names that there are not, answers out of its cache'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and __fish_seen_subcommand_from checkpoint" -f -a "ls" -d 'List the checkpoints of a folder: steps, sizes, metrics, health'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and __fish_seen_subcommand_from checkpoint" -f -a "verify" -d 'Read every byte and say what is damaged'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and __fish_seen_subcommand_from checkpoint" -f -a "show" -d 'Show what is in a checkpoint: tensors, blobs, ranks, metrics'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and __fish_seen_subcommand_from checkpoint" -f -a "diff" -d 'What changed between two steps'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and __fish_seen_subcommand_from checkpoint" -f -a "export" -d 'Write a checkpoint as one plain safetensors file'
complete -c bedplate -n "__fish_bedplate_using_subcommand help; and __fish_seen_subcommand_from checkpoint" -f -a "prune" -d 'Show what a retention would remove, and with --yes remove it'
