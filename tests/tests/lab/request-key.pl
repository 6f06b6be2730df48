#!/usr/bin/perl
# A program behind /sbin/request-key that asks for another key before it answers. By description:
#
#   loop:X:N  asks for loop:X:N+1, and so on
#   same:X    asks for same:X
#   outer:X   asks for inner:X and answers with that
#   inner:X   answers with X
#
# It stops asking after twenty requests, so that a kernel survives where nobody else stops it. Every
# request is a line of /run/asked.
use strict;
use warnings;

my ($KEYCTL, $DESCRIBE, $INSTANTIATE, $ASSUME_AUTHORITY) = (250, 6, 12, 16);
my $key = $ARGV[1] + 0;
my $text = "\0" x 4096;
my $length = syscall($KEYCTL, $DESCRIBE, $key, $text, 4096);
exit 1 if $length < 0;
my $name = (split /;/, substr($text, 0, $length - 1), 5)[4];

open my $log, ">>", "/run/asked" or exit 1;
syswrite $log, "$name\n";
close $log;

sub lines {
    open my $log, "<", "/run/asked" or return 0;
    return scalar(() = <$log>);
}

# What the kernel said, and the payload if there is one.
sub request {
    my $said = qx($ENV{PROBE} request user '$_[0]' x);
    open my $all, ">>", "/run/said" or exit 1;
    syswrite $all, $said;
    return $said =~ /^keyctl.* "(.*)"$/m ? $1 : undef;
}

sub answer {
    my $payload = $_[0];
    syscall($KEYCTL, $ASSUME_AUTHORITY, $key) >= 0 or exit 1;
    syscall($KEYCTL, $INSTANTIATE, $key, $payload, length $payload, 0) == 0 or exit 1;
}

# The kernel gives no variables; the test puts the path here.
$ENV{PROBE} = "@PROBE@";
if ($name =~ /^(loop:.*:)(\d+)$/) {
    request($1 . ($2 + 1)) if lines() < 20;
} elsif ($name =~ /^same:/) {
    request($name) if lines() < 20;
} elsif ($name =~ /^outer:(.*)$/) {
    my $inner = request("inner:$1");
    answer("outer $inner") if defined $inner;
} elsif ($name =~ /^inner:(.*)$/) {
    answer($1);
}
