# Holds the site's lock on this device for as long as its input goes on, and writes the
# site's journal. Argument: who holds it. Each line of input is a journal entry; an
# empty one is a heartbeat. Silence for 60 seconds means that the installer is gone.
folder=/var/lib/cumulet/site
mkdir -p "$folder" && cd "$folder" || exit 4
exec 9>>lock
if ! flock -n 9; then
    echo "held $(cat owner 2>/dev/null)"
    exit 9
fi
printf '%s since %s' "$1" "$(date -u +%FT%TZ)" >owner
echo "locked"
while IFS= read -r -t 60 line; do
    if [ -n "$line" ]; then
        printf '%s\n' "$line" >>journal.jsonl
        sync journal.jsonl
    fi
    date -u +%FT%TZ >heartbeat
done
rm -f owner heartbeat
