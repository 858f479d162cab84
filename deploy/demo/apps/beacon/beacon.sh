# Counts its own starts in a volume, then says every two seconds that it is there.
starts=$(($(cat /data/starts 2>/dev/null || echo 0) + 1))
echo "$starts" >/data/starts
echo "start $starts of $EC_APP"
while :; do
    date +%s >/tmp/beat
    sleep 2
done
