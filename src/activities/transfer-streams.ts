/**
 * Several streams of one pass. rsync reads, encrypts and writes with one core each: a large first copy, and the files of the last delta
 * that must be looked into, are dealt out to several of them, each with a list of its own. What the streams of a first copy did is only
 * a head start: the one rsync after them sees the whole tree and has the last word, also about what stopped them.
 */

/** Of all transfers that one machine sends together: each stream keeps a core busy at either end, and a few fill the wire. */
const mostStreams = 4;

/** Streams that both machines have cores for. */
export function streamsOf(source: { cores: number }, destination: { cores: number }): number {
  return Math.max(1, Math.min(mostStreams, source.cores, destination.cores));
}

/**
 * Perl that deals files out to lists: `begin_lists(NAMES, COUNT)`, `deal(SIZE, NAME)` for every file with what ends its name, `end_lists(LEAST)`.
 * Large files go to the list with the least to do, the largest first; small ones lie together by directory. The last answers whether it is
 * worth it: not where there is little to do, one file that is nearly all of it, or less than so many bytes in a file: names cost rsync more
 * than bytes (docs/benchmarks.md).
 */
export const dealing = String.raw`
{
  my ($large, $run) = (1048576, 500);
  my (@list, @load, @late, $to, $place); my ($bytes, $files, $largest, $same) = (0, 0, 0, 0);
  sub begin_lists { my ($names, $count) = @_; for my $i (0 .. $count - 1) { open($list[$i], ">", "$names." . ($i + 1)) or die "$!\n"; $load[$i] = 0 } }
  sub least { my $best = 0; for my $i (1 .. $#load) { $best = $i if $load[$i] < $load[$best] } return $best }
  sub put_into { my ($i, $n, $file) = @_; print { $list[$i] } $file or die "$!\n"; $load[$i] += $n + 16384 }
  sub deal {
    my ($n, $file) = @_;
    $bytes += $n; $files++; $largest = $n if $n > $largest;
    if ($n >= $large) { push @late, [$n, $file]; return }
    my $here = substr($file, 0, 1 + rindex($file, "/"));
    if (!defined $place || $here ne $place || ++$same > $run) { ($to, $place, $same) = (least(), $here, 0) }
    put_into($to, $n, $file);
  }
  sub end_lists {
    my ($worth) = @_;
    for my $each (sort { $b->[0] <=> $a->[0] } @late) { put_into(least(), @$each) }
    for (@list) { close $_ or die "$!\n" }
    return $bytes >= 67108864 && $bytes >= $files * $worth && $largest < $bytes * 0.9;
  }
}
`;

/**
 * Deals the files of a list out. Arguments: sizes, a line each; names, NUL after each, in the same order; number of lists. Ends with 3 where
 * it is not worth it.
 */
const dealProgram = String.raw`
use strict; use warnings;
${dealing}
my ($sizes, $names, $count) = @ARGV;
open(my $size, "<", $sizes) or die "$sizes: $!\n"; open(my $name, "<", $names) or die "$names: $!\n";
begin_lists($names, $count);
while (defined(my $n = <$size>)) {
  chomp $n;
  my $file = do { local $/ = "\0"; <$name> };
  defined $file or die "fewer names than sizes\n";
  deal($n, $file);
}
{ local $/ = "\0"; defined <$name> and die "more names than sizes\n" }
exit(end_lists(32768) ? 0 : 3);
`;

/**
 * Functions of the pass's script. `shares` tells how many streams a pass may have now. `deal STAGE`: true when the list of the stage has become
 * several. `fan STAGE OPTIONS…`: one stream for each of them; answers the code of the worst.
 */
export const streamFunctions = String.raw`
# The cap is for all that this machine sends: other passes have their share.
shares() {
  [ "$streams" -gt 1 ] || { share=1; return; }
  passes=$(systemctl list-units --plain --no-legend --state=active,activating 'ferry-*.service' 2>/dev/null | wc -l)
  share=$((streams / (passes > 1 ? passes : 1)))
}
deal() {
  shares
  [ "$share" -gt 1 ] || return 1
  perl - "$state/sizes.$1" "$state/list.$1" "$share" 2>"$state/err.deal" <<'end-of-program' || { rm -f "$state/list.$1".*; return 1; }
${dealProgram}
end-of-program
  echo "$1 $share" >>"$state/streams"
}
fan() {
  stage=$1 pids= worst=0
  shift
  for list in "$state/list.$stage".*; do
    copy "$stage.${'$'}{list##*.}" "$@" "--rsync-path=ferry-stream $token rsync" --from0 "--files-from=$list" "$source/" "$target" &
    pids="$pids ${'$'}{list##*.}:$!"
  done
  for each in $pids; do
    wait "${'$'}{each#*:}"
    code=$?
    case "$stage $code" in
      # Only a head start: the one after it meets whatever stopped it.
      fill\ 0 | fill\ 24 | doubtful\ *) echo "$stage.${'$'}{each%%:*} $code" >>"$state/codes" || worst=1 ;;
    esac
    case $code in 0) ;; 23 | 24) [ "$worst" -ne 0 ] || worst=$code ;; *) worst=$code ;; esac
  done
  # The other end of a stream that broke needs a moment to notice.
  case $worst in 0 | 23 | 24) ;; *) sleep 2 ;; esac
  return "$worst"
}
`;
