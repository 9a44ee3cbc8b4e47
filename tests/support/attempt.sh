# What an agent's shell tries that it must not be able to do. Each line says what was tried and how it
# went: "kept" is good, "BROKEN" is not. Arguments: the server's data folder, its process id, another
# process of this machine, and a secret of the server's environment.
data=$1 server=$2 other=$3 secret=$4

must_fail() {
    what=$1
    shift
    if "$@" >/dev/null 2>&1; then echo "BROKEN $what"; else echo "kept $what"; fi
}
must_work() {
    what=$1
    shift
    if "$@" >/dev/null 2>&1; then echo "kept $what"; else echo "BROKEN $what"; fi
}
finds_other_towns() {
    # Of the folders of towns exactly one may be there: its own.
    [ "$(ls "$data/towns" | wc -l)" -ne 1 ] || [ "$(ls "$data/run" | wc -l)" -ne 1 ]
}
finds_secret() {
    cat /proc/*/environ 2>/dev/null | tr '\0' '\n' | grep -qF "$secret" || env | grep -qF "$secret"
}

must_fail "database" cat "$data/database/db"
must_fail "database folder" ls "$data/database"
must_fail "administrator's token" cat "$data/admin.token"
must_fail "other towns" finds_other_towns
must_fail "server's environment" finds_secret
must_fail "home folders" sh -c 'ls -A /home | grep -q .'
must_fail "keys and shells of the server's user" sh -c 'ls ~root/.ssh ~root/.bashrc ~root/.cargo | grep -q .'
must_fail "server's process" test -e "/proc/$server/cmdline"
must_fail "signal to the server" kill -0 "$server"
must_fail "signal to another process" kill -0 "$other"
# Where the data folder lies in /tmp, this makes a file in the sandbox's own; the test looks outside.
touch "$data/escaped" 2>/dev/null
must_fail "writing to the root" touch /escaped
must_fail "writing to the system" touch /usr/escaped
must_fail "writing to the settings" touch /etc/escaped
must_fail "shadow file" cat /etc/shadow
must_fail "making a device" mknod /tmp/disk b 254 0
must_fail "mounting" mount -t tmpfs none /mnt
must_fail "mounting /proc of the machine" sh -c 'mkdir /tmp/p && mount -t proc none /tmp/p'
must_fail "the kernel's settings" sh -c 'echo 1 > /proc/sys/kernel/sysrq'
must_fail "changing root" chroot / true
must_fail "setting the clock" date -s 2001-01-01
must_fail "reading the container's memory" sh -c ': </proc/1/mem'
must_fail "the container's environment" cat /proc/1/environ
must_work "writing to its worktree" touch here.txt
must_work "writing to /tmp" touch /tmp/here.txt
must_work "git" git log -1
rm -f here.txt
