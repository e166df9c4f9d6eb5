/* Trees that the bench copies, made on the machine by perl. Same seed, same names and sizes; contents differ, compressibility does not. */

/** Sub-directories of `databases`; each is a transfer of its own. */
export const databaseDirectories = ['mariadb', 'kafka', 'opensearch', 'redis'] as const;

/**
 * Arguments: tree, kind, bytes, files, seed. Half of a data file is text as logs and tables have it, half is random: it compresses to
 * about 60 % like the data of the platform's databases.
 */
const maker = String.raw`
use strict; use warnings;
my ($tree, $kind, $bytes, $files, $seed) = @ARGV;
srand($seed);
open(my $urandom, '<', '/dev/urandom') or die; binmode $urandom;
my @words = map { join '', map { ('a' .. 'z')[rand 26] } 1 .. 2 + rand 9 } 1 .. 4000;
my $text = '';
while (length $text < 24 * 1048576) { $text .= int(rand 1e9) . ' ' . join(' ', map { $words[rand(rand @words)] } 1 .. 12) . "\n" }
sub piece { my $n = shift; if (rand() < 0.5) { sysread($urandom, my $data, $n) == $n or die; return $data } return substr($text, rand(length($text) - $n), $n) }
sub file {
  my ($name, $size, $page) = @_; $size = int $size;
  open(my $out, '>', "$tree/$name") or die "$name: $!"; binmode $out;
  for (my $at = 0; $at < $size; $at += $page) { print $out piece($size - $at < $page ? $size - $at : $page) }
  close $out or die "$name: $!";
}
sub directory { my $d = "$tree/$_[0]"; mkdir $d or die "$d: $!" }
system('mkdir', '-p', '--', $tree) == 0 or die;
if ($kind eq 'single') { file('data', $bytes, 16384) }
elsif ($kind eq 'small') {
  for my $i (0 .. $files - 1) {
    my $d = sprintf('%05d', $i / 200);
    directory($d) if $i % 200 == 0;
    open(my $out, '>', "$tree/$d/$i") or die "$i: $!"; binmode $out; print $out substr($text, rand(length($text) - 9000), 200 + rand 8000); close $out or die;
  }
} elsif ($kind eq 'databases') {
  directory($_) for qw(mariadb kafka opensearch redis);
  file("mariadb/table$_.ibd", $bytes * 0.4 / 3, 16384) for 1 .. 3;
  file("mariadb/table$_.frm", 300 + rand 8000, 4096) for 1 .. 60;
  for (my ($i, $left) = (0, $bytes * 0.25); $left > 0; $i++, $left -= 16 * 1048576) {
    my $name = sprintf('%020d', $i * 1000);
    file("kafka/$name.log", $left < 16 * 1048576 ? $left : 16 * 1048576, 65536);
    # Kafka's indexes are preallocated: most of them is a hole.
    file("kafka/$name.index", 20000, 4096); truncate("$tree/kafka/$name.index", 10 * 1048576) or die;
  }
  for (my ($i, $left) = (0, $bytes * 0.25); $left > 0; $i++) { my $size = 4096 + int(rand() ** 4 * 4 * 1048576); file("opensearch/_$i.cfs", $size, 32768); $left -= $size }
  file('redis/dump.rdb', $bytes * 0.07, 65536); file('redis/appendonly.aof', $bytes * 0.03, 65536);
} else { die "no such kind: $kind" }
`;

/** Script that makes a tree in place of what was there. */
export function makeTree(
  tree: string,
  kind: 'databases' | 'small' | 'single',
  size: { bytes?: number; files?: number },
): string {
  const { bytes = 0, files = 0 } = size;
  return `rm -rf '${tree}'; perl - '${tree}' ${kind} ${bytes} ${files} 1 <<'end-of-program'\n${maker}\nend-of-program\n`;
}

/** Script that rewrites one page of 16 KiB in a hundred, scattered at random. */
export function dirtyPages(file: string, seed: number): string {
  return `perl - '${file}' ${seed} <<'end-of-program'
use strict; use warnings;
my ($file, $seed) = @ARGV; srand($seed);
open(my $urandom, '<', '/dev/urandom') or die; binmode $urandom;
open(my $out, '+<', $file) or die; binmode $out;
my $pages = int((-s $file) / 16384);
for (1 .. $pages / 100) { sysread($urandom, my $page, 16384); sysseek($out, 16384 * int(rand $pages), 0); syswrite($out, $page) == 16384 or die }
close $out or die;
end-of-program
`;
}
