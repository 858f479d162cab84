# Runs well long enough to be taken for healthy, then fails at every start: a full disk, a lost password, a broken meter.
if [ -e /data/proved ]; then
    echo "cannot go on"
    exit 7
fi
sleep 8
touch /data/proved
exit 7
