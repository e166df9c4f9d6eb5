/** Line of a shell that is true where openssl digests files: faster than sha256sum, and of the same result. */
export const opensslDigests = 'openssl dgst -sha256 -r /dev/null >/dev/null 2>&1';

/**
 * Program for perl 5.10 or later that describes a tree in canonical records, independent of rsync, and digests the contents with several
 * processes. Arguments: tree, kind (metadata, sampled, full), algorithm, processes, nanoseconds (1 or 0), seed, work directory, and for
 * a second look: `buckets` or `bucket=N`.
 *
 * A record: path NUL type mode owner group links-group mtime size-or-target xattrs content, separated by tabs; sorted by bytes. Files
 * with several names in the tree carry the first of them. The root digest is the sha256 of all records.
 */
export const treeScanProgram = String.raw`
use strict; use warnings; no warnings 'recursion';
use POSIX ();
my ($tree, $kind, $algorithm, $jobs, $nano, $seed, $work, $again) = @ARGV;
$ENV{LC_ALL} = 'C'; $ENV{PATH} .= ':/usr/sbin:/sbin';
umask 077;
# llistxattr and lgetxattr: the ones that do not follow symlinks.
my %call = (x86_64 => [195, 192], aarch64 => [12, 9], arm64 => [12, 9], ppc64le => [216, 213], loongarch64 => [12, 9], s390x => [231, 228]);
my $machine = (POSIX::uname())[4];
my ($llist, $lget) = @{ $call{$machine} || die "extended attributes cannot be read on $machine\n" };
sub fail { print STDERR "$_[0]\n"; exit 3 }
sub escape { my $t = shift; $t =~ s/([^\x20-\x7e]|\\)/sprintf('\\x%02x', ord $1)/ge; $t }
sub slurp_command { my @c = @_; open(my $h, '-|', @c) or fail("$c[0]: $!"); binmode $h; local $/; my $o = <$h>; close $h or fail("$c[0] failed"); $o }
sub sha256_file { my $o = slurp_command('sha256sum', '-b', '--', $_[0]); $o =~ /^\\?([0-9a-f]{64})/ or fail('sha256sum gave no digest'); $1 }

if ($again) { second_look(); exit 0 }

chdir $tree or fail("$tree: $!");
my (@records, @files, %group, %linked, %names);
my ($entries, $bytes, $blocks) = (0, 0, 0);
{
  # find prints times with all digits; perl's own lstat knows whole seconds only.
  open(my $find, '-|', 'find', '.', '-printf', '%y\t%m\t%U\t%G\t%D:%i\t%n\t%T@\t%s\t%b\t%P\0%l\0') or fail("find: $!");
  binmode $find; local $/ = "\0";
  while (defined(my $line = <$find>)) {
    my $target = <$find>; defined $target or fail('find ended early');
    chomp $line; chomp $target;
    my ($type, $mode, $uid, $gid, $inode, $links, $mtime, $size, $block, $path) = split /\t/, $line, 10;
    $path = '' unless defined $path;
    my $name = $path eq '' ? '.' : "./$path";
    $mtime =~ s/\..*// unless $nano;
    $entries++; $blocks += $block;
    told('found', $entries) if $entries % 5000 == 0;
    my $what = '-';
    if ($type eq 'f') { $what = $size; $bytes += $size }
    elsif ($type eq 'l') { $what = escape($target) }
    elsif ($type eq 'b' or $type eq 'c') { my $device = (lstat $name)[6]; defined $device or fail("$name: $!"); $what = "device $device" }
    if ($type ne 'd' and $links > 1) { $names{$inode}++; $group{$inode} = $path if !defined $group{$inode} or $path lt $group{$inode}; $linked{$#records + 1} = $inode }
    push @records, [$path, $type, $mode, $uid, $gid, '-', $mtime, $what, attributes($name), '-'];
    push @files, [$#records, $size] if $type eq 'f' and $kind ne 'metadata' and $size > 0;
  }
  close $find or fail('find could not read the whole tree');
  told('found', $entries);
}
my $first = {};
for my $index (sort { $a <=> $b } keys %linked) {
  my $inode = $linked{$index};
  # Its other names lie outside of the tree: no copy of the tree can have them.
  $records[$index][5] = escape($group{$inode}) if $names{$inode} > 1;
}
digest_contents() if @files;
my $out = "$work/records";
open(my $sorted, '|-', "sort -z >'$out'") or fail("sort: $!"); binmode $sorted;
for my $r (@records) { print $sorted escape($r->[0]), "\t", join("\t", @$r[1 .. 9]), "\0" }
close $sorted or fail('sort failed');
my $seconds = $nano ? '' : ' (whole seconds)';
printf "digest=%s\nentries=%d\nbytes=%.0f\nallocated=%.0f\n", sha256_file($out), $entries, $bytes, $blocks * 512;

# For who watches: one number in a file that is always whole.
sub told { my ($name, $number) = @_; open(my $o, '>', "$work/$name.new") or return; print $o "$number\n"; close $o; rename "$work/$name.new", "$work/$name" }

# Names and values of extended attributes, ACLs among them; - when there are none.
sub attributes {
  my $name = shift;
  my $path = "$name\0";
  my $size = syscall($llist, $path, my $nothing = '', 0);
  if ($size < 0) { return '-' if $! == POSIX::ENOTSUP() or $! == POSIX::ENOSYS(); fail("$name: extended attributes: $!") }
  return '-' if $size == 0;
  my $list = "\0" x $size;
  $size = syscall($llist, $path, $list, $size); fail("$name: extended attributes: $!") if $size < 0;
  my @found;
  for my $key (sort split /\0/, substr($list, 0, $size)) {
    next if $key =~ /^system\./ and $key !~ /^system\.posix_acl_/;
    my $k = "$key\0";
    my $length = syscall($lget, $path, $k, my $none = '', 0);
    fail("$name: $key: $!") if $length < 0;
    my $value = "\0" x ($length || 1);
    $length = syscall($lget, $path, $k, $value, $length); fail("$name: $key: $!") if $length < 0;
    push @found, escape($key) . '=' . unpack('H*', substr($value, 0, $length));
  }
  return @found ? join(',', @found) : '-';
}

# Contents: small files in batches, large ones in pieces, the largest first, shared by processes that each take the next batch.
sub digest_contents {
  my $piece = 256 * 1024 * 1024;
  my @tasks; my @batch; my $size = 0;
  for my $file (sort { $b->[1] <=> $a->[1] } @files) {
    my ($index, $length) = @$file;
    if ($kind eq 'sampled' and $length > 640 * 1024) { push @tasks, ['sample', $index, $length]; next }
    if ($length > $piece) {
      for (my $at = 0; $at < $length; $at += $piece) { push @tasks, ['piece', $index, $at, $length - $at < $piece ? $length - $at : $piece] }
      next;
    }
    push @batch, $index; $size += $length + 4096;
    if ($size > 32 * 1024 * 1024 or @batch >= 200) { push @tasks, ['batch', @batch]; @batch = (); $size = 0 }
  }
  push @tasks, ['batch', @batch] if @batch;
  my $all = 0; $all += size_of($_) for @tasks; told('total', $all);
  # A pipe filled with numbers of tasks is the queue: each process reads the next one.
  pipe(my $take, my $give) or fail("pipe: $!");
  my @pids; my @results;
  $jobs = scalar @tasks if $jobs > @tasks;
  for my $worker (1 .. $jobs) {
    my $pid = fork; defined $pid or fail("fork: $!");
    if (!$pid) {
      close $give; open(my $result, '>', "$work/part.$worker") or fail("part: $!");
      my $done = 0;
      while ((sysread($take, my $number, 8) || 0) == 8) { my $task = $tasks[$number + 0]; do_task($task, $result); $done += size_of($task); told("done.$worker", $done) }
      close $result or fail("part: $!");
      POSIX::_exit(0);
    }
    push @pids, $pid;
  }
  close $take;
  $SIG{PIPE} = 'IGNORE';
  for my $number (0 .. $#tasks) { defined syswrite($give, sprintf('%8d', $number)) or last }
  close $give;
  for my $pid (@pids) { waitpid($pid, 0); fail('a digest failed') if $? }
  my %pieces;
  for my $worker (1 .. $jobs) {
    open(my $result, '<', "$work/part.$worker") or fail("part: $!");
    while (<$result>) { chomp; my ($index, $at, $hash) = split / /; if ($at eq '-') { $records[$index][9] = $hash } else { $pieces{$index}{$at} = $hash } }
    close $result; unlink "$work/part.$worker";
  }
  for my $index (keys %pieces) { my $p = $pieces{$index}; $records[$index][9] = join('+', map { $p->{$_} } sort { $a <=> $b } keys %$p) }
}

# Bytes that a task reads.
sub size_of {
  my ($how, @rest) = @{ $_[0] };
  return 10 * 64 * 1024 if $how eq 'sample';
  return $rest[2] if $how eq 'piece';
  my $sum = 0; $sum += $records[$_][7] for @rest; return $sum;
}

sub tool { return $algorithm eq 'blake2b' ? ('b2sum', '-b') : $algorithm eq 'openssl' ? ('openssl', 'dgst', '-sha256', '-r') : ('sha256sum', '-b') }

sub do_task {
  my ($task, $result) = @_;
  my ($how, @rest) = @$task;
  if ($how eq 'batch') {
    my @names = map { "./$records[$_][0]" } @rest;
    my $text = slurp_command(tool(), $algorithm eq 'openssl' ? () : ('--'), @names);
    for my $i (0 .. $#rest) {
      my $name = $names[$i];
      # Newer tools escape carriage returns as well; openssl escapes line feeds alone, and before 3.0 nothing.
      my $shown = $name; my $alternative = $name;
      if ($algorithm eq 'openssl') { $alternative =~ s/\n/\\n/g }
      elsif ($name =~ /[\\\n\r]/) { $shown =~ s/\\/\\\\/g; $shown =~ s/\n/\\n/g; $alternative = $shown; $alternative =~ s/\r/\\r/g }
      $text =~ s/\A\\?([0-9a-f]{64,128})[ ]\*(?:\Q$shown\E|\Q$alternative\E)\n// or fail("no digest of " . escape($name));
      print $result "$rest[$i] - ", substr($1, 0, 64), "\n";
    }
    return;
  }
  my ($index, $at, $length) = @rest;
  my $name = "./$records[$index][0]";
  if ($how eq 'piece') {
    open(my $file, '<', $name) or fail(escape($name) . ": $!"); binmode $file;
    sysseek($file, $at, 0);
    print $result "$index $at ", digest_stream($file, $length), "\n";
    return;
  }
  # Ten places of 64 KiB: both ends, and eight that the seed chooses.
  my $size = $at; my $block = 64 * 1024; my $state = 0;
  for my $c (unpack 'C*', "$seed/$records[$index][0]") { $state = ($state * 31 + $c) % 2147483647 }
  my @places = (0, $size - $block);
  for (1 .. 8) { $state = ($state * 48271 + 11) % 2147483647; push @places, int($state / 2147483647 * ($size - $block)) }
  my $data = '';
  open(my $file, '<', $name) or fail(escape($name) . ": $!"); binmode $file;
  for my $place (sort { $a <=> $b } @places) { sysseek($file, $place, 0); my $got = sysread($file, my $buffer, $block); fail(escape($name) . ": $!") unless defined $got; $data .= $buffer }
  my $temporary = "$work/sample.$$";
  open(my $copy, '>', $temporary) or fail("sample: $!"); binmode $copy; print $copy $data; close $copy or fail("sample: $!");
  print $result "$index - ", sha256_file($temporary), "\n";
  unlink $temporary;
}

sub digest_stream {
  my ($file, $length) = @_;
  pipe(my $read, my $write) or fail("pipe: $!");
  # F_SETPIPE_SZ: a mebibyte at a time instead of 64 KiB, where the kernel allows it.
  { no warnings; fcntl($write, 1031, 1048576) }
  my $pid = open(my $tool, '-|'); defined $pid or fail("fork: $!");
  if (!$pid) { close $write; open(STDIN, '<&', $read) or POSIX::_exit(1); exec(tool()) or POSIX::_exit(1) }
  close $read;
  while ($length > 0) {
    my $got = sysread($file, my $buffer, $length < 1048576 ? $length : 1048576);
    fail("reading: $!") unless $got;
    my $off = 0; while ($off < $got) { my $put = syswrite($write, $buffer, $got - $off, $off); fail("pipe: $!") unless $put; $off += $put }
    $length -= $got;
  }
  close $write;
  my $line = <$tool>; close $tool or fail('a digest failed');
  $line =~ /^([0-9a-f]{64})/ or fail('no digest of a piece'); return $1;
}

# Where two trees differ: one checksum per bucket of paths, then the records of single buckets.
sub second_look {
  open(my $in, '<', "$work/records") or fail("records: $!"); binmode $in; local $/ = "\0";
  my ($wanted) = $again =~ /^bucket=([\d,]+)$/; my %wanted = map { $_ => 1 } split /,/, defined $wanted ? $wanted : '';
  my @sum; my @count;
  while (my $record = <$in>) {
    chomp $record;
    my ($path) = split /\t/, $record, 2;
    my $bucket = unpack('%32C*', $path) * 7 + length($path); $bucket %= 256;
    if ($again eq 'buckets') {
      my $h = defined $sum[$bucket] ? $sum[$bucket] : 5381;
      for my $word (unpack 'N*', $record . ("\0" x 3)) { $h = (($h * 33) ^ $word) & 0xffffffff }
      $sum[$bucket] = $h; $count[$bucket]++;
    } elsif ($wanted{$bucket}) { print "$record\n" }
  }
  if ($again eq 'buckets') { for my $b (0 .. 255) { print "$b ", (defined $sum[$b] ? $sum[$b] : 0), ' ', ($count[$b] || 0), "\n" } }
}
`;
